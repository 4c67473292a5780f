"""Attaching to what is no segment of ours: a clear error, and the file stays as it is."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import ARGUMENTS, CHANNELS, EACH_CLASS, LOCK_CLASSES, leave_sign
from isolation import isolated, shared_names

from shmipc import (
    AtomicInt64,
    AtomicUInt64,
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    BusyError,
    Condition,
    CorruptError,
    Event,
    LayoutError,
    OwnerDiedWarning,
    Ring,
    RWLock,
    Segment,
    Semaphore,
    SharedArray,
    ShmipcError,
    SimpleQueue,
)
from shmipc.synchronized import SynchronizedBase

VERSION, ABI, KIND = 8, 12, 16  # offsets behind the magic's 8 bytes
UNREADABLE = (LayoutError, CorruptError)
DOORS = ["attach", "open"]


@pytest.fixture(autouse=True)
def _no_semaphores() -> Iterator[None]:
    with semaphores_removed():
        yield


@contextmanager
def semaphores_removed() -> Iterator[None]:
    """Removes semaphores whose names stood in headers that the body has destroyed."""
    before = shared_names()
    yield
    for name in shared_names() - before:
        if name.name.startswith("sem."):
            name.unlink()


def _segment_file(cls: Any, where: Path) -> Path:
    cls.create(where, **ARGUMENTS[cls]).close()
    return where


def _patch(where: Path, offset: int, content: bytes) -> None:
    with where.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _refused(cls: Any, door: str, where: Path, error: Any) -> str:
    """The message of the error that attaching gives; the file must not have changed."""
    before = where.read_bytes(), where.stat().st_mtime_ns, where.stat().st_mode
    options = ARGUMENTS[cls] if door == "open" else {}
    with pytest.raises(error) as raised:
        getattr(cls, door)(where, **options)
    assert (where.read_bytes(), where.stat().st_mtime_ns, where.stat().st_mode) == before
    assert list(where.parent.iterdir()) == [where]
    assert str(where) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("content", [b"", b"x", b"no segment\n" * 5000, bytes(100_000)], ids=len)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("cls", EACH_CLASS)
def test_a_file_that_is_no_segment(cls: Any, door: str, content: bytes, tmp_path: Path) -> None:
    where = tmp_path / "file"
    where.write_bytes(content)
    where.chmod(0o600)
    _refused(cls, door, where, UNREADABLE)


@pytest.mark.parametrize("left", [1, 8, 64, 1000, 4096, -4096, -1])
@pytest.mark.parametrize("cls", EACH_CLASS)
def test_a_truncated_segment(cls: Any, left: int, tmp_path: Path) -> None:
    where = _segment_file(cls, tmp_path / "file")
    size = where.stat().st_size
    os.truncate(where, left if left > 0 else size + left)
    _refused(cls, "attach", where, UNREADABLE)


@pytest.mark.parametrize("field", [VERSION, ABI], ids=["version", "abi"])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("cls", EACH_CLASS)
def test_another_version_or_abi_is_named_with_the_expected_one(
    cls: Any, door: str, field: int, tmp_path: Path
) -> None:
    where = _segment_file(cls, tmp_path / "file")
    (expected,) = struct.unpack_from("<I", where.read_bytes(), field)
    found = expected + 0x1234
    _patch(where, field, struct.pack("<I", found))
    message = _refused(cls, door, where, LayoutError).lower()
    for value in (expected, found):
        assert str(value) in message or f"{value:x}" in message, message


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6, 7, 987654])
@pytest.mark.parametrize("cls", EACH_CLASS)
def test_another_kind(cls: Any, kind: int, tmp_path: Path) -> None:
    where = _segment_file(cls, tmp_path / "file")
    if struct.unpack_from("<I", where.read_bytes(), KIND)[0] != kind:
        _patch(where, KIND, struct.pack("<I", kind))
        _refused(cls, "attach", where, UNREADABLE)


def test_another_magic(tmp_path: Path) -> None:
    where = _segment_file(Segment, tmp_path / "file")
    _patch(where, 0, b"NOTMAGIC")
    _refused(Segment, "attach", where, UNREADABLE)


def test_the_class_asked_for_and_the_class_found_are_named(tmp_path: Path) -> None:
    where = _segment_file(Segment, tmp_path / "file")
    message = _refused(Ring, "attach", where, LayoutError).lower()
    assert "ring" in message
    assert "segment" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("cls", EACH_CLASS)
def test_a_segment_of_another_owner(cls: Any, door: str, tmp_path: Path) -> None:
    where = _segment_file(cls, tmp_path / "file")
    os.chown(where, 12345, -1)
    message = _refused(cls, door, where, PermissionError)
    assert "12345" in message
    assert str(os.geteuid()) in message


@pytest.mark.parametrize("mode", [0o666, 0o602])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("cls", EACH_CLASS)
def test_a_segment_that_others_may_write(cls: Any, door: str, mode: int, tmp_path: Path) -> None:
    where = _segment_file(cls, tmp_path / "file")
    where.chmod(mode)
    message = _refused(cls, door, where, PermissionError)
    assert f"{mode:o}" in message


@pytest.mark.parametrize("cls", EACH_CLASS)
def test_a_directory_or_a_device_is_no_segment(cls: Any, tmp_path: Path) -> None:
    for where in (tmp_path, Path("/dev/null")):
        with pytest.raises((OSError, *UNREADABLE)) as error:
            cls.attach(where)
        assert str(where) in str(error.value)


def test_a_fifo_does_not_make_attach_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises((OSError, *UNREADABLE)):
        Segment.attach(tmp_path / "fifo")


@pytest.mark.parametrize("cls", EACH_CLASS)
def test_create_does_not_replace_a_file_that_is_there(cls: Any, tmp_path: Path) -> None:
    where = tmp_path / "file"
    where.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=str(where)):
        cls.create(where, **ARGUMENTS[cls])
    assert where.read_bytes() == b"mine"


seeds = pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.stress) for n in range(2, 20))]
)


@seeds
@pytest.mark.parametrize("cls", EACH_CLASS)
@isolated(limit=120)
def test_a_file_with_flipped_bytes_is_an_error_or_works(
    cls: Any, seed: int, tmp_path: Path
) -> None:
    """What is read from shared memory is not trusted: no crash, no hang."""
    with closing(_filled(cls, tmp_path / "good")):
        good = (tmp_path / "good").read_bytes()
    where = tmp_path / "damaged"
    rng = random.Random(seed)
    for _ in range(300):
        damaged = bytearray(good)
        _flip(damaged, rng)
        where.write_bytes(damaged)
        where.chmod(0o600)
        with suppress(ShmipcError, OSError), closing(cls.attach(where)) as thing:
            _use(thing)
    cls.unlink(tmp_path / "good")


@seeds
@pytest.mark.parametrize("cls", EACH_CLASS)
@isolated(limit=120)
def test_bytes_flipped_under_a_handle_are_an_error_or_it_works(
    cls: Any, seed: int, tmp_path: Path
) -> None:
    where = tmp_path / "file"
    rng = random.Random(seed)
    for _ in range(100):
        with semaphores_removed(), closing(_filled(cls, where)) as thing:
            with where.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
                _flip(content, rng)
            _use(thing)
            where.unlink()


def _filled(cls: Any, where: Path) -> Any:
    """An object with some messages in it, that has also wrapped."""
    thing = cls.create(where, **ARGUMENTS[cls])
    if cls is Segment:
        leave_sign(thing)
    elif cls in CHANNELS:
        for number in range(150):
            thing.put(bytes([number]) * (number % 100 * 10))
            if number >= 5:
                thing.get()
    return thing


def _flip(content: Any, rng: random.Random) -> None:
    """Changes one byte or some, most of them in words that are in use."""
    used = [offset for offset, byte in enumerate(content[:16384]) if byte]
    for _ in range(rng.choice((1, 1, 8))):
        offset = rng.choice((rng.choice(used), rng.choice(used[:400]), rng.randrange(len(content))))
        content[offset] ^= rng.choice((1, 128, 255, rng.randrange(256)))


def _use_condition(condition: Any) -> None:
    if condition.acquire(timeout=0.01):
        with suppress(BusyError):
            condition.wait(0.001)
        condition.notify(3)
        condition.release()


def _use_barrier(barrier: Any) -> None:
    barrier.n_waiting, barrier.broken  # noqa: B018
    with suppress(BrokenBarrierError):
        barrier.wait(0.001)
    barrier.reset()


def _use_rwlock(lock: Any) -> None:
    if lock.acquire_read_lock(timeout=0.01):
        lock.release_read_lock()
    if lock.acquire_write_lock(timeout=0.01):
        lock.release_write_lock()


def _use_event(event: Any) -> None:
    event.wait(0.001)
    event.set()
    event.clear()


def _use_units(units: Any) -> None:
    if units.acquire(timeout=0.001):
        units.release()
    units.get_value()


def _use_number(number: Any) -> None:
    with suppress(OverflowError):
        number.add(1)
    number.wait(number.load(), 0.001)
    number.store(5)


def _use_value(value: Any) -> None:
    if isinstance(value, SynchronizedBase):  # else a raw one: the flip has made the lock disappear
        if value.acquire(timeout=0.01):
            value.release()
        value = value.get_obj()
    bytes(value)


def _use_array(array: Any) -> None:
    array.sum()
    array[...] = 0


USES: dict[type, Callable[[Any], Any]] = {
    Segment: leave_sign,
    Semaphore: _use_units,
    BoundedSemaphore: _use_units,
    Event: _use_event,
    Condition: _use_condition,
    Barrier: _use_barrier,
    RWLock: _use_rwlock,
    AtomicInt64: _use_number,
    AtomicUInt64: _use_number,
    SharedArray: _use_array,
}


def _use(thing: Any) -> None:
    """Everything that does not wait; what comes may be wrong, or an error."""
    with warnings.catch_warnings(), suppress(ShmipcError, OSError, ValueError):
        warnings.simplefilter("ignore", OwnerDiedWarning)
        thing.participants()
        if type(thing) in LOCK_CLASSES:
            if thing.acquire(timeout=0.01):
                thing.release()
        elif type(thing) in USES:
            USES[type(thing)](thing)
        elif isinstance(thing, SynchronizedBase | ctypes._SimpleCData | ctypes.Array):
            _use_value(thing)
        elif isinstance(thing, SimpleQueue):
            while not thing.empty():
                thing.get()
        else:
            thing.put(b"message", timeout=0.01)
            for _ in range(20):
                thing.get(timeout=0.01)
