"""Queue, JoinableQueue, SimpleQueue: objects, in one process. What is as in multiprocessing is in
tests/process/test_parity.py."""

from __future__ import annotations

import json
import pickle
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import QUEUE_CLASSES, json_dumps, made

from shmipc import ClosedError, Empty, Full, JoinableQueue, Queue, ShutDown, SimpleQueue

numpy = pytest.importorskip("numpy")

OBJECTS: list[Any] = [
    None,
    0,
    -(1 << 80),
    "text",
    b"",
    b"bytes",
    bytearray(b"ba"),
    3.5,
    True,
    (1, [2, {"three": 4}], {5}),
    range(3),
    ValueError("an exception"),
    Queue,
]


@pytest.fixture(params=QUEUE_CLASSES)
def any_queue(request: pytest.FixtureRequest) -> Iterator[Any]:
    with made(request.param) as channel:
        yield channel


@pytest.mark.parametrize("thing", OBJECTS, ids=repr)
def test_an_equal_object_of_the_same_type_comes_out(any_queue: Any, thing: Any) -> None:
    any_queue.put(thing)
    got = any_queue.get()
    assert type(got) is type(thing)
    assert got == thing or repr(got) == repr(thing)


def test_arrays_from_get_are_ones_own_and_writable(any_queue: Any) -> None:
    sent = numpy.arange(1000)
    any_queue.put(sent)
    any_queue.put(sent)
    first, second = any_queue.get(), any_queue.get()
    first[:] = 0
    assert first.flags.writeable
    assert (second == sent).all()


def test_what_is_changed_after_put_is_not_sent(any_queue: Any) -> None:
    thing = [1, 2]
    any_queue.put(thing)
    thing.append(3)
    assert any_queue.get() == [1, 2]


def test_what_cannot_be_pickled_is_an_error_at_put(any_queue: Any) -> None:
    for thing in (lambda: None, threading.Lock()):
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            any_queue.put(thing)
    assert any_queue.empty()
    any_queue.put("still works")
    assert any_queue.get() == "still works"


def test_what_can_never_fit_is_a_value_error_at_put(any_queue: Any) -> None:
    for thing in (bytes(1 << 20), ["x" * (1 << 20)]):
        with pytest.raises(ValueError, match="capacity"):
            any_queue.put(thing)
    assert any_queue.empty()


def test_order_is_kept(any_queue: Any) -> None:
    for number in range(500):
        any_queue.put(number)
    assert [any_queue.get() for _ in range(500)] == list(range(500))


def test_empty_says_whether_something_waits(any_queue: Any) -> None:
    assert any_queue.empty()
    any_queue.put(1)
    assert not any_queue.empty()
    any_queue.get()
    assert any_queue.empty()


@pytest.mark.parametrize("cls", [Queue, JoinableQueue])
def test_maxsize_counts_items_not_bytes(cls: Any) -> None:
    with made(cls, maxsize=3) as channel:
        for size in (0, 20_000, 40_000):
            channel.put(bytes(size))
        assert channel.full()
        assert channel.qsize() == 3
        with pytest.raises(Full):
            channel.put_nowait(b"")
        with pytest.raises(queue.Full):
            channel.put(b"", timeout=0.01)
        assert len(channel.get()) == 0
        assert not channel.full()
        channel.put_nowait(b"")
        assert [len(channel.get()) for _ in range(3)] == [20_000, 40_000, 0]


def test_maxsize_holds_also_for_more_bytes_than_the_capacity() -> None:
    """A put blocks at n items, not at some number of bytes."""
    with made(Queue, maxsize=20) as channel:
        for number in range(20):
            channel.put_nowait(bytes([number]) * 10_000)
        assert channel.full()
        with pytest.raises(Full):
            channel.put_nowait(b"")
        assert [channel.get(timeout=60)[0] for _ in range(20)] == list(range(20))


@pytest.mark.parametrize("cls", [Queue, JoinableQueue])
def test_without_maxsize_a_put_never_blocks(cls: Any) -> None:
    with made(cls) as channel:
        for number in range(300):
            channel.put(number.to_bytes(2, "little") * 1000)  # ten times the capacity
        assert channel.qsize() == 300
        assert not channel.full()
        for number in range(300):
            assert channel.get(timeout=60) == number.to_bytes(2, "little") * 1000


@pytest.mark.parametrize("cls", [Queue, JoinableQueue])
@pytest.mark.parametrize("timeout", [-1, 0, 0.01])
def test_timeouts(cls: Any, timeout: float) -> None:
    with made(cls, maxsize=1) as channel:
        with pytest.raises(Empty):
            channel.get(timeout=timeout)
        channel.put(1)
        with pytest.raises(Full):
            channel.put(2, timeout=timeout)
        with pytest.raises(TypeError):
            channel.get(timeout="1")
        assert channel.qsize() == 1


def test_put_many_and_get_many() -> None:
    with made(Queue) as channel:
        assert channel.put_many([1, "two", b"3"]) == 3
        assert channel.get_many(2) == [1, "two"]
        assert channel.get_many(2) == [b"3"]
        with pytest.raises(Empty):
            channel.get_many(2, timeout=0)


def test_put_many_stops_at_maxsize() -> None:
    with made(Queue, maxsize=2) as channel:
        with pytest.raises(Full) as full:
            channel.put_many([1, 2, 3], timeout=0.01)
        assert full.value.count == 2
        assert channel.get_many(5) == [1, 2]


@pytest.mark.parametrize("cls", [Queue, JoinableQueue])
def test_shutdown_ends_the_stream(cls: Any) -> None:
    with made(cls) as channel:
        channel.put(1)
        channel.put("two")
        channel.shutdown()
        with pytest.raises(ShutDown):
            channel.put(3)
        assert list(channel) == [1, "two"]
        with pytest.raises(ShutDown):
            channel.get()


def test_shutdown_lets_what_still_waits_through() -> None:
    """What a put took is delivered, though it did not fit in the ring when the stream ended."""
    with made(Queue) as channel:
        for number in range(100):
            channel.put(bytes([number]) * 5000)
        channel.shutdown()
        assert [message[0] for message in channel] == list(range(100))


@pytest.mark.parametrize("cls", [Queue, JoinableQueue])
def test_shutdown_at_once_drops_what_waits(cls: Any) -> None:
    with made(cls) as channel:
        channel.put(1)
        channel.shutdown(immediate=True)
        with pytest.raises(ShutDown):
            channel.get()


def test_a_pair_of_functions_is_a_codec() -> None:
    with made(Queue, codec=(json_dumps, json.loads)) as channel:
        channel.put({"a": [1, None]})
        assert channel.get() == {"a": [1, None]}
        channel.put((1, 2))
        assert channel.get() == [1, 2]  # json's answer, not pickle's
        with pytest.raises(TypeError):
            channel.put({1, 2})
        assert channel.empty()


@pytest.mark.parametrize(
    "arguments",
    [
        {"maxsize": "3"},
        {"maxsize": 1.5},
        {"capacity": 0},
        {"capacity": "big"},
        {"codec": "marshal"},
        {"codec": 5},
        {"codec": (len,)},
        {"codec": (len, 5)},
        {"lock": "mutex"},
        {"producers": "few"},
        {"consumers": 4},
        {"spin": -1},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Queue(**arguments)


def test_simple_queue_refuses_a_bad_capacity() -> None:
    bad: list[Any] = [0, -1, "1"]
    for capacity in bad:
        with pytest.raises((TypeError, ValueError)):
            SimpleQueue(capacity=capacity)


def test_close_refuses_more_and_join_thread_waits() -> None:
    channel = Queue[int]()
    channel.put(1)
    channel.close()
    with pytest.raises(ClosedError):
        channel.put(2)
    with pytest.raises(ClosedError):
        channel.get()
    channel.join_thread()


def test_task_done_too_often_is_a_value_error() -> None:
    with made(JoinableQueue) as channel:
        with pytest.raises(ValueError):
            channel.task_done()
        channel.put(1)
        channel.get()
        channel.task_done()
        channel.join()
        with pytest.raises(ValueError):
            channel.task_done()


def test_join_waits_for_every_task() -> None:
    with made(JoinableQueue) as channel:
        for number in range(5):
            channel.put(number)
        joiner = threading.Thread(target=channel.join)
        joiner.start()
        for _ in range(5):
            assert joiner.is_alive()
            channel.get()
            channel.task_done()
        joiner.join()


def test_stats_can_be_read() -> None:
    with made(Queue) as channel:
        assert "park" in str(channel.stats())
