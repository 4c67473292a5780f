"""Every channel that the benchmarks compare, behind one tiny interface.

A channel is made in the parent, for messages of one size. After the fork the producer asks it for
`sender()` and the consumer for `receiver()`: bare callables, so that a timed loop calls the library
and nothing else. Libraries are imported when their channel is made; one that is not installed
raises ImportError there.

Each library is used in its fastest documented way for one message a call. Those that are sized in
bytes get the same `CAPACITY`.
"""

# Most of the libraries have no types.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import fcntl
import itertools
import os
import select
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_uint8, memmove, string_at
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.processes import FORK

CAPACITY = 4 * 1024 * 1024
"""Bytes in flight: shmipc's default, and room for a few messages of 1 MiB."""

NEVER = 3600.0
"""Seconds, for a library that cannot wait without a limit: longer than the watchdog does."""

SHARED_MEMORY = Path("/dev/shm")

Put = Callable[[Any], object]
Get = Callable[[], Any]

_serial = itertools.count()


class TooLargeError(ValueError):
    """The channel takes no message of this size."""


def unique_name() -> str:
    """Return a name that no other channel of this machine bears, of at most 28 characters."""
    return f"bench{os.getpid()}n{next(_serial)}"


def slots(size: int, most: int) -> int:
    """Return how many messages of `size` bytes fill CAPACITY: at least 2, at most `most`."""
    return max(2, min(most, CAPACITY // size))


class Channel(ABC):
    """One way from producers to a consumer, for messages of one size."""

    name: ClassVar[str]
    limit: ClassVar[int] = sys.maxsize
    """Bytes of the longest message."""

    def __init__(self, size: int) -> None:
        """Make the channel, in the parent, for messages of `size` bytes."""
        if size > self.limit:
            raise TooLargeError(f"{self.name} takes {self.limit} bytes, not {size}")
        self.size = size
        self.make()

    @abstractmethod
    def make(self) -> None:
        """Create what both sides share."""

    @abstractmethod
    def sender(self) -> Put:
        """Return what sends one message; called in the producer's process."""

    @abstractmethod
    def receiver(self) -> Get:
        """Return what waits for one message; called in the consumer's process."""

    def unwrap(self, received: Any) -> Any:
        """Return the message in what the receiver gave."""
        return received

    def close(self) -> None:  # noqa: B027 (most let go of everything when they are collected)
        """Let go of everything, also of what a killed process left."""


# --- shmipc ---------------------------------------------------------------------------------------


class Ring(Channel):
    """Bytes, with no lock on either side."""

    name = "shmipc.Ring 1:1"
    sides: ClassVar[dict[str, str]] = {"producers": "one", "consumers": "one"}

    def make(self) -> None:
        self.ring = import_module("shmipc").Ring(CAPACITY, **self.sides)

    def sender(self) -> Put:
        return self.ring.put

    def receiver(self) -> Get:
        return self.ring.get

    def close(self) -> None:
        self.ring.close()


class SharedRing(Ring):
    """Bytes, from and to any number of processes: the default."""

    name = "shmipc.Ring"
    sides: ClassVar[dict[str, str]] = {}


class BatchedRing(Ring):
    """Several messages a call."""

    name = "shmipc.Ring 1:1, many"

    def sender(self) -> Put:
        return self.ring.put_many

    def receiver(self) -> Get:
        return partial(self.ring.get_many, 64)


class Queue(Channel):
    """Any object, as `multiprocessing.Queue`: unbounded, from and to any number of processes."""

    name = "shmipc.Queue"

    def make(self) -> None:
        self.queue = import_module("shmipc").Queue()

    def sender(self) -> Put:
        return self.queue.put

    def receiver(self) -> Get:
        return self.queue.get

    def close(self) -> None:
        self.queue.close()


class SimpleQueue(Queue):
    """Any object, no thread, bounded by its bytes."""

    name = "shmipc.SimpleQueue"

    def make(self) -> None:
        self.queue = import_module("shmipc").SimpleQueue()


class BatchedQueue(Queue):
    """Several objects a call."""

    name = "shmipc.Queue, many"

    def sender(self) -> Put:
        return self.queue.put_many

    def receiver(self) -> Get:
        return partial(self.queue.get_many, 64)


# --- the standard library -------------------------------------------------------------------------


class StandardQueue(Channel):
    """`multiprocessing.Queue`: a pipe, two locks, a feeder thread."""

    name = "mp.Queue"

    def make(self) -> None:
        self.queue: Any = FORK.Queue()

    def sender(self) -> Put:
        return self.queue.put

    def receiver(self) -> Get:
        return self.queue.get

    def close(self) -> None:
        self.queue.close()


class StandardSimpleQueue(StandardQueue):
    """`multiprocessing.SimpleQueue`: a pipe and two locks."""

    name = "mp.SimpleQueue"

    def make(self) -> None:
        self.queue = FORK.SimpleQueue()


class Pipe(Channel):
    """`multiprocessing.Pipe`, one way, bytes: no lock, so one producer."""

    name = "mp.Pipe"

    def make(self) -> None:
        self.source, self.sink = FORK.Pipe(duplex=False)

    def sender(self) -> Put:
        return self.sink.send_bytes

    def receiver(self) -> Get:
        return self.source.recv_bytes

    def close(self) -> None:
        self.source.close()
        self.sink.close()


class ObjectPipe(Pipe):
    """`multiprocessing.Pipe` with its own pickling."""

    def sender(self) -> Put:
        return self.sink.send

    def receiver(self) -> Get:
        return self.source.recv


class OsPipe(Channel):
    """A bare pipe as wide as the system allows; it knows no messages, so all have one length."""

    name = "os.pipe"
    widest = Path("/proc/sys/fs/pipe-max-size")

    def make(self) -> None:
        self.source, self.sink = os.pipe()
        with suppress(OSError):  # the user's share of pipe memory may be spent: stay narrow
            fcntl.fcntl(self.sink, fcntl.F_SETPIPE_SZ, int(self.widest.read_text()))

    def sender(self) -> Put:
        return partial(os.write, self.sink)

    def receiver(self) -> Get:
        if self.size <= select.PIPE_BUF:  # written in one piece, so read in one piece
            return partial(os.read, self.source, self.size)
        return self._read_whole

    def _read_whole(self) -> bytes:
        parts, left = [], self.size
        while left:
            parts.append(os.read(self.source, left))
            left -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        os.close(self.source)
        os.close(self.sink)


# --- the peers ------------------------------------------------------------------------------------


class MessageQueue(Channel):
    """posix_ipc's queue in the kernel, as deep and as wide as Linux allows without privileges."""

    name = "posix_ipc"
    limit = 8192
    depth: ClassVar[int] = 10

    def make(self) -> None:
        module = import_module("posix_ipc")
        self.queue = module.MessageQueue(
            None, module.O_CREX, max_messages=self.depth, max_message_size=self.size
        )
        self.queue.unlink()

    def sender(self) -> Put:
        return self.queue.send

    def receiver(self) -> Get:
        return self.queue.receive

    def unwrap(self, received: Any) -> Any:
        message, _priority = received
        return message

    def close(self) -> None:
        self.queue.close()


class Hyperq(Channel):
    """hyperq's ring of bytes under a process-shared mutex."""

    name = "hyperq"
    type_name: ClassVar[str] = "BytesHyperQ"

    def make(self) -> None:
        self.shared_name = unique_name()
        make = getattr(import_module("hyperq"), self.type_name)
        self.queue: Any = make(CAPACITY, name=self.shared_name)

    def sender(self) -> Put:
        return self.queue.put

    def receiver(self) -> Get:
        return self.queue.get

    def close(self) -> None:
        self.queue = None
        for name in (self.shared_name, f"b_{self.shared_name}"):
            (SHARED_MEMORY / name).unlink(missing_ok=True)


class ObjectHyperq(Hyperq):
    """hyperq with its own pickling."""

    type_name = "HyperQ"


class FasterFifo(Channel):
    """faster-fifo with `bytes` for its codec, which spares it the pickling of bytes."""

    name = "faster-fifo"
    codec: ClassVar[dict[str, Any]] = {"loads": bytes, "dumps": bytes}

    def make(self) -> None:
        self.queue = import_module("faster_fifo").Queue(CAPACITY, **self.codec)

    def sender(self) -> Put:
        return self.queue.put

    def receiver(self) -> Get:
        return partial(self.queue.get, True, NEVER)


class ObjectFasterFifo(FasterFifo):
    """faster-fifo with its own pickling."""

    codec: ClassVar[dict[str, Any]] = {}


class BatchedFasterFifo(FasterFifo):
    """Several messages a call, for the price of one lock."""

    name = "faster-fifo, many"

    def sender(self) -> Put:
        return self.queue.put_many

    def receiver(self) -> Get:
        return partial(self.queue.get_many, True, NEVER, 64)


class Zmq(Channel):
    """pyzmq, PUSH to PULL over ipc; each side holds at most CAPACITY."""

    name = "pyzmq ipc"
    no_copy_from: ClassVar[int] = 65536
    """Bytes from which sending without a copy is the faster way."""

    def make(self) -> None:
        self.zmq = import_module("zmq")
        self.address = f"ipc://@{unique_name()}"  # in the abstract namespace: nothing to unlink

    def _connect(self) -> Any:
        socket = self.zmq.Context().socket(self.zmq.PUSH)
        socket.sndhwm = slots(self.size, CAPACITY)
        socket.connect(self.address)
        return socket

    def _bind(self) -> Any:
        socket = self.zmq.Context().socket(self.zmq.PULL)
        socket.rcvhwm = slots(self.size, CAPACITY)
        socket.bind(self.address)
        return socket

    def sender(self) -> Put:
        send = self._connect().send
        return partial(send, copy=False) if self.size >= self.no_copy_from else send

    def receiver(self) -> Get:
        return self._bind().recv


class ObjectZmq(Zmq):
    """pyzmq with pickle, as its `send_pyobj` and `recv_pyobj` do."""

    def sender(self) -> Put:
        return self._connect().send_pyobj

    def receiver(self) -> Get:
        return self._bind().recv_pyobj


class Iceoryx2(Channel):
    """iceoryx2's publish-subscribe, lossless: a copy into a loan, a copy out; it polls."""

    name = "iceoryx2"
    most_slots: ClassVar[int] = 64
    most_publishers: ClassVar[int] = 8

    def make(self) -> None:
        self.iox = import_module("iceoryx2")
        self.iox.set_log_level(self.iox.LogLevel.Fatal)
        self.prefix = f"{unique_name()}_"
        self.directory = tempfile.mkdtemp(prefix=self.prefix)
        self.kept: list[Any] = []  # nodes and services, alive as long as their ports

    def _services(self) -> Any:
        """Return a new node's builder of services, in a namespace of the channel's own."""
        config = self.iox.config.default()
        config.global_cfg.prefix = self.iox.FileName.new(self.prefix)
        config.global_cfg.root_path = self.iox.Path.new(self.directory)
        node = self.iox.NodeBuilder.new().config(config).create(self.iox.ServiceType.Ipc)
        self.kept.append(node)
        return node.service_builder(self.iox.ServiceName.new("benchmark"))

    def _topic(self) -> Any:
        builder = self._services().publish_subscribe(self.iox.Slice[c_uint8])
        builder = builder.enable_safe_overflow(False).max_publishers(self.most_publishers)
        builder = builder.subscriber_max_buffer_size(slots(self.size, self.most_slots))
        self.kept.append(builder.open_or_create())
        return self.kept[-1]

    def sender(self) -> Put:
        builder = self._topic().publisher_builder().initial_max_slice_len(self.size)
        lossless = self.iox.BackpressureStrategy.RetryUntilDelivered
        loan = builder.backpressure_strategy(lossless).create().loan_slice_uninit
        size = self.size

        def put(message: bytes) -> None:
            sample = loan(size)
            memmove(sample.payload_ptr, message, size)
            sample.assume_init().send()

        return put

    def receiver(self) -> Get:
        receive = self._topic().subscriber_builder().create().receive
        size = self.size

        def get() -> bytes:
            while (sample := receive()) is None:
                pass
            return string_at(sample.payload_ptr, size)

        return get

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        for path in SHARED_MEMORY.glob(f"{self.prefix}*"):
            path.unlink(missing_ok=True)


class SleepingIceoryx2(Iceoryx2):
    """iceoryx2 with its event beside the data, so that the subscriber can sleep."""

    name = "iceoryx2 event"

    def _event(self) -> Any:
        self.kept.append(self._services().event().open_or_create())
        return self.kept[-1]

    def sender(self) -> Put:
        put = super().sender()
        notify = self._event().notifier_builder().create().notify

        def put_and_notify(message: bytes) -> None:
            put(message)
            notify()

        return put_and_notify

    def receiver(self) -> Get:
        receive = self._topic().subscriber_builder().create().receive
        wait = self._event().listener_builder().create().blocking_wait
        size = self.size

        def get() -> bytes:
            while (sample := receive()) is None:
                wait()
            return string_at(sample.payload_ptr, size)

        return get


# --- who answers which question -------------------------------------------------------------------

STREAMS: tuple[type[Channel], ...] = (
    Ring,
    SharedRing,
    Queue,
    StandardQueue,
    StandardSimpleQueue,
    Pipe,
    OsPipe,
    MessageQueue,
    FasterFifo,
    Hyperq,
    Zmq,
    Iceoryx2,
)
"""Bytes, one producer and one consumer."""

MANY_PRODUCERS: tuple[type[Channel], ...] = tuple(
    channel for channel in STREAMS if channel not in (Ring, Pipe)
)
"""Bytes, from more than one producer."""

SLEEPERS: tuple[type[Channel], ...] = tuple(
    SleepingIceoryx2 if channel is Iceoryx2 else channel for channel in STREAMS
)
"""Bytes, with a consumer that sleeps."""

BATCHES: tuple[type[Channel], ...] = (
    BatchedRing,
    BatchedQueue,
    Queue,
    StandardQueue,
    StandardSimpleQueue,
    ObjectPipe,
    BatchedFasterFifo,
    ObjectFasterFifo,
    ObjectHyperq,
    ObjectZmq,
)
"""Many messages at a time: by a call made for it, else as one object, a list."""

OBJECTS: tuple[type[Channel], ...] = (
    Queue,
    SimpleQueue,
    StandardQueue,
    StandardSimpleQueue,
    ObjectPipe,
    ObjectFasterFifo,
    ObjectHyperq,
    ObjectZmq,
)
"""Any picklable object."""
