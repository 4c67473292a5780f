"""What the tests share: objects to make, processes to start and to kill, messages that show tears.

Nothing here waits for a fixed time; `isolation.isolated` puts the only limit, on a whole test.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from isolation import SHM, TESTS, stat_of
from isolation import isolated as isolated

import shmipc
from shmipc.synchronized import Synchronized, SynchronizedArray

ROOT = TESTS.parent
LOCKS = ("futex", "semaphore")
BACKINGS = ("anonymous", "named", "file")
KILLS = [15, pytest.param(300, marks=pytest.mark.stress)]

ARGUMENTS: dict[Any, dict[str, Any]] = {
    shmipc.Segment: {"size": 8192},
    shmipc.Lock: {},
    shmipc.RLock: {},
    shmipc.SemaphoreLock: {},
    shmipc.Semaphore: {},
    shmipc.BoundedSemaphore: {},
    shmipc.Event: {},
    shmipc.Condition: {},
    shmipc.Barrier: {"parties": 2},
    shmipc.RWLock: {},
    shmipc.AtomicInt64: {},
    shmipc.AtomicUInt64: {},
    shmipc.Value: {"typecode_or_type": "q"},
    shmipc.Array: {"typecode_or_type": "h", "size_or_initializer": 1000},
    shmipc.SharedArray: {"shape": (30, 40), "dtype": "i4"},
    shmipc.Ring: {"capacity": 65536},
    shmipc.Queue: {"capacity": 65536},
    shmipc.JoinableQueue: {"capacity": 65536},
    shmipc.SimpleQueue: {"capacity": 65536},
}
CLASSES = list(ARGUMENTS)
TYPICAL = [
    shmipc.Segment,
    shmipc.RLock,
    shmipc.SemaphoreLock,
    shmipc.BoundedSemaphore,
    shmipc.Condition,
    shmipc.SharedArray,
    shmipc.Ring,
    shmipc.Queue,
]
"""One of each way to be made; the others have their turn in stress runs."""
EACH_CLASS = [
    cls if cls in TYPICAL else pytest.param(cls, marks=pytest.mark.stress) for cls in CLASSES
]
LOCK_CLASSES = [shmipc.Lock, shmipc.RLock, shmipc.SemaphoreLock]
QUEUE_CLASSES = [shmipc.Queue, shmipc.JoinableQueue, shmipc.SimpleQueue]
CHANNELS = [shmipc.Ring, *QUEUE_CLASSES]


# --- objects ------------------------------------------------------------------------------------


_serial = itertools.count()


def unique_name() -> str:
    """A plain name that no other test, of this run or another, uses."""
    return f"test-{os.getpid()}-{next(_serial)}"


def file_of(name: str) -> Path:
    """The file behind a plain name."""
    return SHM / f"shmipc.{name}"


def make(cls: Any, backing: str, directory: Path, **options: Any) -> Any:
    """A new `cls`, anonymous, named or file-backed, with small sizes unless `options` say more."""
    options = ARGUMENTS[cls] | options
    if backing == "anonymous":
        return cls(**options)
    where = unique_name() if backing == "named" else directory / unique_name()
    return cls.create(where, **options)


@contextmanager
def made(
    cls: Any, backing: str = "anonymous", directory: Path = Path(), **options: Any
) -> Iterator[Any]:
    """`make`, and unlink and close at the end."""
    thing = make(cls, backing, directory, **options)
    try:
        yield thing
    finally:
        if backing != "anonymous":
            thing.unlink()
        thing.close()


@contextmanager
def named(cls: Any, name: str | Path, **options: Any) -> Iterator[Any]:
    """An object created as `name`, unlinked and closed at the end."""
    thing = cls.create(name, **(ARGUMENTS[cls] | options))
    try:
        yield thing
    finally:
        thing.unlink()
        thing.close()


class Sign(NamedTuple):
    """Something that can be done with an object, seen from another process, and undone."""

    leave: Callable[[Any], Any]
    is_there: Callable[[Any], bool]
    remove: Callable[[Any], Any] = lambda thing: None


def _write_sign(segment: Any) -> None:
    segment.buf[:4] = b"sign"


LOCKED = Sign(
    lambda lock: lock.acquire(timeout=10) or pytest.fail("not acquired"),
    lambda lock: lock.locked() and not lock.acquire(block=False),
    lambda lock: lock.release(),
)
TAKEN = Sign(
    lambda units: units.acquire(timeout=10) or pytest.fail("not acquired"),
    lambda units: units.get_value() == 0 and not units.acquire(block=False),
    lambda units: units.release(),
)
STORED = Sign(lambda number: number.store(1234), lambda number: number.load() == 1234)
SENT = Sign(lambda channel: channel.put(b"sign"), lambda channel: channel.get() == b"sign")
SIGNS: dict[type, Sign] = {
    shmipc.Segment: Sign(_write_sign, lambda segment: bytes(segment.buf[:4]) == b"sign"),
    shmipc.Lock: LOCKED,
    shmipc.RLock: LOCKED,
    shmipc.SemaphoreLock: LOCKED,
    shmipc.Semaphore: TAKEN,
    shmipc.BoundedSemaphore: TAKEN,
    shmipc.Event: Sign(
        lambda event: event.set(), lambda event: event.is_set(), lambda event: event.clear()
    ),
    shmipc.Condition: Sign(
        lambda condition: condition.acquire(timeout=10) or pytest.fail("not acquired"),
        lambda condition: not condition.acquire(block=False),
        lambda condition: condition.release(),
    ),
    shmipc.Barrier: Sign(
        lambda barrier: barrier.abort(),
        lambda barrier: barrier.broken,
        lambda barrier: barrier.reset(),
    ),
    shmipc.RWLock: Sign(
        lambda lock: lock.acquire_write_lock(timeout=10) or pytest.fail("not acquired"),
        lambda lock: not lock.acquire_read_lock(block=False),
        lambda lock: lock.release_write_lock(),
    ),
    shmipc.AtomicInt64: STORED,
    shmipc.AtomicUInt64: STORED,
    Synchronized: Sign(
        lambda value: setattr(value, "value", -77), lambda value: value.value == -77
    ),
    SynchronizedArray: Sign(
        lambda array: array.__setitem__(slice(-2, None), [5, -7]),
        lambda array: array[-3:] == [0, 5, -7],
    ),
    shmipc.SharedArray: Sign(
        lambda array: array.__setitem__(-1, range(40)),
        lambda array: array[-2:].tolist() == [[0] * 40, list(range(40))],
    ),
    shmipc.Ring: SENT,
    shmipc.Queue: SENT,
    shmipc.JoinableQueue: SENT,
    shmipc.SimpleQueue: SENT,
}


def leave_sign(thing: Any) -> None:
    """Does something with any object of shmipc that `sign_is_there` sees from another process."""
    SIGNS[type(thing)].leave(thing)


def sign_is_there(thing: Any) -> bool:
    """Whether the object shows what `leave_sign` did. Takes the message from a channel."""
    return SIGNS[type(thing)].is_there(thing)


def touch(thing: Any) -> None:
    """Uses it; leaves a message in a channel."""
    leave_sign(thing)
    remove_sign(thing)


def json_dumps(thing: Any) -> bytes:
    """Half of a codec."""
    return json.dumps(thing).encode()


def remove_sign(thing: Any) -> None:
    """Undoes `leave_sign` where that is needed: gives a lock back."""
    SIGNS[type(thing)].remove(thing)


def flush(channel: Any) -> None:
    """Before a forked process ends: waits until everything that a queue took is passed on."""
    if not isinstance(channel, shmipc.Ring):
        channel.close()
        channel.join_thread()


# --- messages -----------------------------------------------------------------------------------


_HEAD = struct.Struct("<IQII")


def pack(writer: int, sequence: int, size: int) -> bytes:
    """A message that names its writer and number in every word, with a checksum over all of it."""
    word = struct.pack("<IQ", writer, sequence)
    body = (word * (size // len(word) + 1))[:size]
    return _HEAD.pack(writer, sequence, size, zlib.crc32(word + body)) + body


def unpack(message: bytes) -> tuple[int, int]:
    """(writer, sequence) of a message from `pack`; AssertionError when it is torn."""
    assert len(message) >= _HEAD.size, f"short message: {message!r}"
    writer, sequence, size, checksum = _HEAD.unpack_from(message)
    body = message[_HEAD.size :]
    assert len(body) == size, f"writer {writer}: {size} bytes put, {len(body)} bytes got"
    word = struct.pack("<IQ", writer, sequence)
    assert zlib.crc32(word + body) == checksum, f"torn message {sequence} of writer {writer}"
    return writer, sequence


def random_size(rng: random.Random) -> int:
    """Mostly short, sometimes none, sometimes several KiB."""
    return rng.choice((0, rng.randrange(32), rng.randrange(600), rng.randrange(6000)))


# --- tables -------------------------------------------------------------------------------------


def pairwise(factors: Mapping[str, Iterable[Any]]) -> list[tuple[Any, ...]]:
    """Few rows such that every pair of values of two factors stands in one of them.

    Greedy: each row is the one of the full product that covers most pairs still missing.
    """
    product = list(itertools.product(*factors.values()))

    def pairs(row: tuple[Any, ...]) -> set[Any]:
        return set(itertools.combinations(enumerate(row), 2))

    missing = set().union(*(pairs(row) for row in product))
    rows = []
    while missing:
        rows.append(max(product, key=lambda row: len(pairs(row) & missing)))
        missing -= pairs(rows[-1])
    return rows


def pairwise_cases(factors: Mapping[str, Iterable[Any]]) -> list[Any]:
    """The pairwise rows as pytest parameters, and the rest of the product for stress runs."""
    rows = pairwise(factors)
    rest = [row for row in itertools.product(*factors.values()) if row not in rows]

    def parameter(row: tuple[Any, ...], *marks: Any) -> Any:
        return pytest.param(*row, id="-".join(_label(value) for value in row), marks=marks)

    return [parameter(row) for row in rows] + [parameter(row, pytest.mark.stress) for row in rest]


def _label(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


# --- processes ----------------------------------------------------------------------------------


class Gate:
    """A pipe as an event between forked processes: `open` once, and every `wait` goes on."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def open(self, people: int = 1) -> None:
        """Lets `people` waiters through."""
        os.write(self._writer, b"." * people)

    def wait(self) -> None:
        assert os.read(self._reader, 1) == b"."

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


class Forked:
    """A call that runs in a forked child."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: threads and fork
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reader)
            self._run(writer, function, *args)
        os.close(writer)

    @staticmethod
    def _run(writer: int, function: Callable[..., Any], *args: Any) -> NoReturn:
        status = 1
        try:
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(_outcome(function, *args))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def result(self) -> Any:
        """Waits for the end; what the call returned, or its exception."""
        with os.fdopen(self._reader, "rb") as pipe:
            outcome = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        if not outcome:
            raise AssertionError(f"the child ended without a result, status {status}")
        good, value = pickle.loads(outcome)
        if good:
            return value
        raise value

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.forget()

    def forget(self) -> None:
        """Lets go of the result."""
        os.close(self._reader)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        """SIGSTOP, and waits until the process stands."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def cont(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def _outcome(function: Callable[..., Any], *args: Any) -> bytes:
    try:
        return pickle.dumps((True, function(*args)))
    except BaseException as error:
        traceback.print_exc()
        return pickle.dumps((False, error))


class Words:
    """64-bit words that forked processes share, in memory of the kernel's own, not shmipc's.

    Each is written by one store, so that a kill cannot tear it.
    """

    def __init__(self, count: int) -> None:
        self._words = memoryview(mmap.mmap(-1, 8 * count)).cast("Q")

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value


def in_child(function: Callable[..., Any], *args: Any) -> Any:
    """Calls in a forked child and waits for what it returns or raises."""
    return Forked(function, *args).result()


def die_with(function: Callable[..., Any], *arguments: Any, **options: Any) -> int:
    """A child that does it and ends without an order; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            function(*arguments, **options)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return pid


def run_python(
    *arguments: str, limit: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with `arguments`, at most `limit` seconds; finds what is installed."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=limit,
        env=os.environ | {"PYTHONSAFEPATH": "1"} | environment,
    )


def wait_until_asleep(pid: int) -> None:
    """Returns when the process has been asleep at five looks in a row."""
    asleep = 0
    while asleep < 5:
        state = stat_of(str(pid))[0]
        assert state not in "ZX", f"process {pid} has ended"
        asleep = asleep + 1 if state == "S" else 0
        time.sleep(0.01)


def in_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Starts `function` in a thread; the call returned waits for its result or exception."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Any:
        thread.join()
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return result
