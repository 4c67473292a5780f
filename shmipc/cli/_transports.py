"""The means of transport that ``shmipc bench`` compares, and how a job is timed on one of them."""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any

import shmipc
from shmipc.cli._errors import CommandError
from shmipc.cli._workers import Crew

Put = Callable[[bytes], object]
Get = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Job:
    """Messages of `size` bytes: one way, or there and back one at a time."""

    size: int
    round_trip: bool = False

    @property
    def title(self) -> str:
        """The size, and the way if it is there and back: ``64 KiB``."""
        size, unit = self.size, "B"
        for larger in ("KiB", "MiB"):
            if size >= 1024:
                size, unit = size // 1024, larger
        return f"{size} {unit} round trip" if self.round_trip else f"{size} {unit}"

    def message(self) -> bytes:
        """A message of this job."""
        return b"\xa5" * self.size


@dataclass(frozen=True, slots=True)
class Channel:
    """One direction between two processes: the objects at its ends, and the names of the methods.

    Names, because not every bound method can be pickled for a spawned process.
    """

    sender: Any
    put: str
    receiver: Any
    get: str

    def putter(self) -> Put:
        put: Put = getattr(self.sender, self.put)
        return put

    def getter(self) -> Get:
        get: Get = getattr(self.receiver, self.get)
        return get


@dataclass(frozen=True, slots=True)
class Transport:
    """A way to send messages from one process to another."""

    name: str
    make: Callable[[], Channel]


def _queue() -> Channel:
    queue = shmipc.Queue[bytes]()
    return Channel(queue, "put", queue, "get")


def _ring() -> Channel:
    ring = shmipc.Ring(producers="one", consumers="one")
    return Channel(ring, "put", ring, "get")


def _multiprocessing_queue() -> Channel:
    queue = multiprocessing.Queue()  # type: multiprocessing.Queue[bytes]
    return Channel(queue, "put", queue, "get")


def _multiprocessing_simple_queue() -> Channel:
    queue = multiprocessing.SimpleQueue()  # type: multiprocessing.SimpleQueue[bytes]
    return Channel(queue, "put", queue, "get")


def _multiprocessing_pipe() -> Channel:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    return Channel(sender, "send_bytes", receiver, "recv_bytes")


OURS = (Transport("shmipc.Queue", _queue), Transport("shmipc.Ring", _ring))
"""Both as a single producer and a single consumer would make them."""

PEERS = (
    Transport("Queue", _multiprocessing_queue),
    Transport("SimpleQueue", _multiprocessing_simple_queue),
    Transport("Pipe", _multiprocessing_pipe),
)
"""Multiprocessing's."""


class Pair:
    """Two processes joined by one transport; they sleep until they are told to do a job."""

    def __init__(self, crew: Crew, transport: Transport) -> None:
        self._crew = crew
        there, back = transport.make(), transport.make()
        # Both ends stay open here, so that only the crew says that a worker has died.
        self._near_control = multiprocessing.Pipe()
        self._far_control = multiprocessing.Pipe()
        name = transport.name
        crew.start(f"{name}, near end", _near, self._near_control[1], there.putter, back.getter)
        crew.start(f"{name}, far end", _far, self._far_control[1], there.getter, back.putter)

    def seconds(self, job: Job, count: int) -> float:
        """How long `count` messages take, from before the first put until after the last get."""
        near, far = self._near_control[0], self._far_control[0]
        far.send((job, count))
        near.send((job, count))
        began, near_ended = self._crew.receive(near)
        far_ended = self._crew.receive(far)
        return float(max(near_ended, far_ended) - began) / 1e9


# Both ends read the machine's monotonic clock, which is the same in every process.


def _near(
    control: "Connection[Any, Any]", putter: Callable[[], Put], getter: Callable[[], Get]
) -> None:
    """Send what each order says, and answer with the nanoseconds when that began and ended."""
    put, get = putter(), getter()
    while True:
        job, count = control.recv()
        message = job.message()
        began = time.monotonic_ns()
        if job.round_trip:
            _ping(put, get, message, count)
        else:
            _send(put, message, count)
        control.send((began, time.monotonic_ns()))


def _far(
    control: "Connection[Any, Any]", getter: Callable[[], Get], putter: Callable[[], Put]
) -> None:
    """Receive what each order says, and answer with the nanoseconds when that ended."""
    get, put = getter(), putter()
    while True:
        job, count = control.recv()
        last = _pong(get, put, count) if job.round_trip else _receive(get, count)
        ended = time.monotonic_ns()
        if last != job.message():
            raise CommandError("the last message is not the one that was sent")
        control.send(ended)


def _send(put: Put, message: bytes, count: int) -> None:
    for _ in repeat(None, count):
        put(message)


def _receive(get: Get, count: int) -> bytes:
    message = b""
    for _ in repeat(None, count):
        message = get()
    return message


def _ping(put: Put, get: Get, message: bytes, count: int) -> None:
    for _ in repeat(None, count):
        put(message)
        get()


def _pong(get: Get, put: Put, count: int) -> bytes:
    message = b""
    for _ in repeat(None, count):
        message = get()
        put(message)
    return message
