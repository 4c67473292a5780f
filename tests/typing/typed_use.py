"""What a type checker must accept, and what it must refuse (each `type: ignore` is an error that
must be there). Checked and run by tests/unit/test_package.py."""

from __future__ import annotations

import ctypes
from typing import Any, assert_type

from shmipc import (
    Array,
    AtomicInt64,
    JoinableQueue,
    Lock,
    Queue,
    RawArray,
    RawValue,
    Ring,
    Segment,
    SharedArray,
    SimpleQueue,
    Value,
)
from shmipc.synchronized import Synchronized, SynchronizedArray, SynchronizedString


def numbers(queue: Queue[int]) -> int:
    queue.put(1)
    queue.put(1, timeout=0.5)
    queue.put_nowait(2)
    assert_type(queue.put_many([3, 4]), int)
    total: int = queue.get() + queue.get_nowait() + queue.get(timeout=1)
    assert_type(queue.get_many(1), list[int])
    assert_type(queue.qsize(), int)
    assert_type(queue.empty(), bool)
    return total


def refused(queue: Queue[int]) -> None:
    queue.put("text")  # type: ignore[arg-type]
    Ring(producers="two")  # type: ignore[arg-type]
    Ring().put("text")  # type: ignore[arg-type]
    Segment("8")  # type: ignore[arg-type]
    Value(7)  # type: ignore[call-overload]
    Value.attach("name", lock="none")  # type: ignore[arg-type]
    SharedArray(3, order="K")  # type: ignore[arg-type]


def messages(ring: Ring) -> None:
    ring.put(bytearray(b"abc"))
    ring.put(memoryview(b"abc"))
    assert_type(ring.get(), bytes)
    assert_type(ring.try_get(), bytes | None)
    assert_type(ring.try_put(b""), bool)
    assert_type(ring.get_many(5, timeout=1), list[bytes])
    assert_type(ring.drain(), list[bytes])
    assert_type(len(ring), int)


def others(segment: Segment, lock: Lock) -> None:
    segment.buf[0] = 1
    assert_type(bytes(memoryview(segment)), bytes)
    with lock:
        assert_type(lock.locked(), bool)
    assert_type(lock.acquire(timeout=1.0), bool)


class Point(ctypes.Structure):
    x: int
    _fields_ = [("x", ctypes.c_int)]


def values() -> None:
    assert_type(AtomicInt64(1).add(2), int)
    value = Value(ctypes.c_int, 5)
    assert_type(value, Synchronized[int])
    assert_type(value.value, int)
    value.value = "text"  # type: ignore[assignment]
    assert_type(Value("i"), Any)
    assert_type(Value(Point, 1, lock=False), Point)
    assert_type(RawValue(Point, 1).x, int)
    array = Array(ctypes.c_double, [1.0, 2.0], lock=Lock())
    assert_type(array, SynchronizedArray[float])
    assert_type(array[0], float)
    assert_type(array[:], list[float])
    assert_type(Array(ctypes.c_char, b"abc"), SynchronizedString)
    RawArray("i", 3)[1] = 5


def arrays() -> None:
    array = SharedArray((3, 4), "i4", order="F")
    array[1:] = 5
    assert_type(array.name, str | None)
    assert_type(array.shape, Any)


def made() -> None:
    joinable: JoinableQueue[str] = JoinableQueue()
    joinable.put("task")
    assert_type(joinable.get(), str)
    joinable.task_done()
    simple: SimpleQueue[bytes] = SimpleQueue(capacity=4096)
    simple.put(b"")
    assert_type(simple.get(), bytes)


if __name__ == "__main__":
    with Queue[int]() as queue:
        assert numbers(queue) == 4
    with Ring(65536) as ring:
        messages(ring)
    with Segment(1) as segment:
        others(segment, Lock())
    made()
    arrays()
