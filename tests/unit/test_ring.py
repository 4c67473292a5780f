"""Ring: messages of bytes, in one process."""

from __future__ import annotations

import array
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import in_child, in_thread, made
from isolation import isolated

from shmipc import BusyError, ClosedError, Empty, Full, Ring, ShutDown

numpy = pytest.importorskip("numpy")

MESSAGES = [b"", b"x", b"12345678", bytes(range(256)) * 40]


@pytest.fixture(params=["futex", "semaphore"])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with made(Ring, lock=request.param) as ring:
        yield ring


def fill(ring: Ring, message: bytes = b"m" * 100) -> int:
    """Puts until it is full; how many went in."""
    count = 0
    while ring.try_put(message):
        count += 1
    return count


# --- put and get ---


def test_messages_come_out_as_they_went_in(ring: Ring) -> None:
    for message in MESSAGES:
        ring.put(message)
    assert len(ring) == len(MESSAGES)
    assert [ring.get() for _ in MESSAGES] == MESSAGES
    assert len(ring) == 0


def test_try_put_and_try_get_answer_instead_of_raising(ring: Ring) -> None:
    assert ring.try_get() is None
    assert ring.try_put(b"") is True
    assert ring.try_get() == b""
    assert fill(ring) > 0
    assert ring.try_put(b"m" * 100) is False


BYTES_LIKE = {
    "bytes": b"abcdef",
    "bytearray": bytearray(b"abcdef"),
    "memoryview": memoryview(b"abcdef"),
    "slice of a memoryview": memoryview(b"__abcdef__")[2:8],
    "array": array.array("H", b"abcdef"),
    "numpy": numpy.frombuffer(b"abcdef", dtype="u1"),
    "2-d numpy": numpy.frombuffer(b"abcdef", dtype="u2").reshape(3, 1),
}


@pytest.mark.parametrize("kind", BYTES_LIKE)
def test_any_bytes_like_goes_in_and_bytes_come_out(ring: Ring, kind: str) -> None:
    data: Any = BYTES_LIKE[kind]
    ring.put(data)
    assert ring.try_put(data)
    assert ring.put_many([data, data]) == 2
    for message in ring.drain():
        assert type(message) is bytes
        assert message == b"abcdef"


@pytest.mark.parametrize("data", [memoryview(b"abcdef")[::2], numpy.zeros((4, 4))[:, 1]])
def test_what_is_not_contiguous_is_refused(ring: Ring, data: Any) -> None:
    for put in (ring.put, ring.try_put, lambda data: ring.put_many([data])):
        with pytest.raises((BufferError, ValueError)):
            put(data)
    assert len(ring) == 0


@pytest.mark.parametrize("data", ["text", 7, None, [1, 2], object()])
def test_what_is_not_bytes_is_refused(ring: Ring, data: Any) -> None:
    for put in (ring.put, ring.try_put, lambda data: ring.put_many([data])):
        with pytest.raises(TypeError):
            put(data)
    assert len(ring) == 0


def test_later_changes_of_the_buffer_are_not_sent(ring: Ring) -> None:
    data = bytearray(b"before")
    ring.put(data)
    data[:] = b"behind"
    data.extend(b"the buffer is not held")
    assert ring.get() == b"before"


def test_the_longest_message_fits_and_a_longer_one_is_a_value_error(ring: Ring) -> None:
    assert 0 < ring.max_message <= ring.capacity
    longest = bytes(ring.max_message)
    for _ in range(3):
        ring.put(longest, timeout=10)
        assert ring.get() == longest
    for put in (ring.put, ring.try_put, lambda data: ring.put_many([data])):
        with pytest.raises(ValueError, match=str(ring.max_message)):
            put(longest + b"x")


def test_the_capacity_is_at_least_the_one_asked_for() -> None:
    for capacity in (1, 5000, 1 << 16, (1 << 20) + 1):
        with Ring(capacity) as ring:
            assert ring.capacity >= capacity


def test_messages_wrap_without_a_seam(ring: Ring) -> None:
    for number in range(5000):
        message = number.to_bytes(4, "little") * (number % 700)
        ring.put(message, timeout=10)
        assert ring.get(timeout=10) == message


# --- full, empty, timeouts ---


@pytest.mark.parametrize("timeout", [-1, 0, 0.01])
def test_full_and_empty_after_the_timeout(ring: Ring, timeout: float) -> None:
    with pytest.raises(Empty):
        ring.get(timeout=timeout)
    fill(ring)
    with pytest.raises(Full):
        ring.put(b"m" * 100, timeout=timeout)


def test_full_and_empty_without_blocking(ring: Ring) -> None:
    with pytest.raises(queue.Empty):
        ring.get(block=False)
    with pytest.raises(queue.Empty):
        ring.get(False)
    fill(ring)
    with pytest.raises(queue.Full):
        ring.put(b"m" * 100, block=False)
    with pytest.raises(queue.Full):
        ring.put(b"m" * 100, False)


@pytest.mark.parametrize("timeout", ["1", [], b"1"])
def test_a_timeout_of_a_wrong_type_is_refused(ring: Ring, timeout: Any) -> None:
    with pytest.raises(TypeError):
        ring.get(timeout=timeout)
    with pytest.raises(TypeError):
        ring.put(b"", timeout=timeout)
    assert len(ring) == 0


def test_a_timeout_that_is_no_number_is_refused(ring: Ring) -> None:
    with pytest.raises(ValueError, match="timeout"):
        ring.get(timeout=float("nan"))


def test_a_full_ring_takes_more_when_some_is_taken_out(ring: Ring) -> None:
    count = fill(ring)
    for _ in range(3 * count):
        assert ring.get() == b"m" * 100
        ring.put(b"m" * 100, timeout=10)
    assert len(ring) == count


def test_get_waits_for_a_put(ring: Ring) -> None:
    waiting = in_thread(lambda: ring.get(timeout=60))
    ring.put(b"here")
    assert waiting() == b"here"


def test_put_waits_for_a_get(ring: Ring) -> None:
    count = fill(ring)
    waiting = in_thread(lambda: ring.put(b"last", timeout=60))
    messages = [ring.get(timeout=60) for _ in range(count + 1)]
    waiting()
    assert messages[-1] == b"last"


def test_a_waiting_get_does_not_hold_the_gil(ring: Ring) -> None:
    waiting = in_thread(lambda: ring.get(timeout=60))
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:
        pass  # this thread runs on
    ring.put(b"")
    assert waiting() == b""


# --- many at once ---


def test_put_many_puts_all_and_says_how_many(ring: Ring) -> None:
    assert ring.put_many(MESSAGES) == len(MESSAGES)
    assert ring.put_many([]) == 0
    assert ring.put_many(iter([b"a", b"b"])) == 2
    assert ring.drain() == [*MESSAGES, b"a", b"b"]
    assert ring.drain() == []


def test_put_many_of_more_than_fits_waits_for_room(ring: Ring) -> None:
    messages = [bytes([n % 251]) * 1000 for n in range(1000)]
    waiting = in_thread(lambda: ring.put_many(messages, timeout=60))
    assert [ring.get(timeout=60) for _ in messages] == messages
    assert waiting() == len(messages)


@pytest.mark.parametrize("how", [{"timeout": 0.01}, {"block": False}])
def test_put_many_that_finds_no_room_says_how_many_went_in(ring: Ring, how: dict[str, Any]) -> None:
    messages = [n.to_bytes(2, "little") * 500 for n in range(1000)]
    with pytest.raises(Full) as full:
        ring.put_many(messages, **how)
    assert 0 < full.value.count < len(messages)
    assert ring.drain() == messages[: full.value.count]


def test_get_many_takes_what_is_there_up_to_max(ring: Ring) -> None:
    ring.put_many([b"1", b"2", b"3", b"4", b"5"])
    assert ring.get_many(2) == [b"1", b"2"]
    assert ring.get_many(10) == [b"3", b"4", b"5"]


def test_get_many_waits_for_min(ring: Ring) -> None:
    ring.put(b"1")
    waiting = in_thread(lambda: ring.get_many(10, min=3, timeout=60))
    ring.put(b"2")
    ring.put(b"3")
    assert waiting() == [b"1", b"2", b"3"]


@pytest.mark.parametrize("timeout", [-1, 0, 0.01])
def test_get_many_of_nothing_is_empty_after_the_timeout(ring: Ring, timeout: float) -> None:
    with pytest.raises(Empty):
        ring.get_many(10, timeout=timeout)


def test_get_many_that_finds_too_few_loses_none(ring: Ring) -> None:
    ring.put(b"1")
    try:
        taken = ring.get_many(10, min=2, timeout=0.01)
    except Empty:
        taken = []
    assert taken + ring.drain() == [b"1"]


def test_get_many_lingers_for_more(ring: Ring) -> None:
    ring.put(b"1")
    waiting = in_thread(lambda: ring.get_many(2, linger=60))
    ring.put(b"2")
    assert waiting() == [b"1", b"2"]


@pytest.mark.parametrize(
    "arguments",
    [{"max": -1}, {"max": 0}, {"max": 2, "min": 0}, {"max": 2, "min": 3}, {"max": 2, "min": -1}],
)
def test_get_many_refuses_bad_bounds(ring: Ring, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        ring.get_many(**arguments)


# --- the end ---


def test_after_shutdown_get_drains_and_then_raises(ring: Ring) -> None:
    ring.put_many([b"1", b"2"])
    ring.shutdown()
    with pytest.raises(ShutDown):
        ring.put(b"3")
    with pytest.raises(ShutDown):
        ring.put_many([b"3"])
    assert ring.get() == b"1"
    assert ring.try_get() == b"2"
    for get in (ring.get, lambda: ring.get_many(2)):
        with pytest.raises(ShutDown):
            get()


def test_shutdown_at_once_drops_what_waits(ring: Ring) -> None:
    ring.put_many([b"1", b"2"])
    ring.shutdown(immediate=True)
    with pytest.raises(ShutDown):
        ring.get()


def test_shutdown_may_be_called_again(ring: Ring) -> None:
    ring.shutdown()
    ring.shutdown()
    ring.shutdown(immediate=True)


@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown_wakes_those_who_wait(ring: Ring, immediate: bool) -> None:
    getting = [in_thread(lambda: ring.get(timeout=60)) for _ in range(3)]
    ring.shutdown(immediate)
    for result in getting:
        with pytest.raises(ShutDown):
            result()


def test_shutdown_wakes_those_who_wait_for_room(ring: Ring) -> None:
    fill(ring)
    putting = in_thread(lambda: ring.put(b"m" * 100, timeout=60))
    ring.shutdown()
    with pytest.raises(ShutDown):
        putting()


def test_iteration_ends_with_the_stream(ring: Ring) -> None:
    reading = in_thread(lambda: list(ring))
    ring.put_many(MESSAGES)
    ring.shutdown()
    assert reading() == MESSAGES


def test_shutdown_is_the_queue_modules_where_that_has_one() -> None:
    assert issubclass(Full, queue.Full)
    assert issubclass(Empty, queue.Empty)
    assert issubclass(ShutDown, getattr(queue, "ShutDown", Exception))


def test_every_method_after_close_is_a_closed_error(ring: Ring) -> None:
    ring.put(b"1")
    ring.close()
    uses: list[Callable[[], Any]] = [
        ring.get,
        ring.try_get,
        ring.drain,
        ring.shutdown,
        lambda: ring.put(b""),
        lambda: ring.try_put(b""),
        lambda: ring.put_many([b""]),
        lambda: ring.get_many(1),
        lambda: len(ring),
        lambda: next(iter(ring)),
    ]
    for use in uses:
        with pytest.raises(ClosedError):
            use()


def test_close_while_another_thread_waits_ends_that_wait(ring: Ring) -> None:
    waiting = in_thread(lambda: ring.get(timeout=60))
    time.sleep(0.05)  # either order is right; this one is the harder
    ring.close()
    with pytest.raises(ClosedError):
        waiting()


# --- sides ---


@pytest.mark.parametrize("lock", ["futex", "semaphore"])
@isolated()
def test_a_second_producer_is_busy_until_the_first_lets_go(lock: str) -> None:
    with made(Ring, producers="one", lock=lock) as ring:
        ring.put(b"1")
        for put in (ring.put, ring.try_put):
            with pytest.raises(BusyError):
                in_child(put, b"2")
        with pytest.raises(BusyError):
            in_child(ring.put_many, [b"2"])
        ring.release_producer()
        in_child(ring.put, b"3")
        assert in_child(ring.drain) == [b"1", b"3"]


@pytest.mark.parametrize("lock", ["futex", "semaphore"])
@isolated()
def test_a_second_consumer_is_busy_until_the_first_lets_go(lock: str) -> None:
    with made(Ring, consumers="one", lock=lock) as ring:
        in_child(ring.put_many, [b"1", b"2", b"3"])
        assert ring.get() == b"1"
        for get in (ring.get, ring.try_get, ring.drain):
            with pytest.raises(BusyError):
                in_child(get)
        with pytest.raises(BusyError):
            in_child(ring.get_many, 1)
        ring.release_consumer()
        assert in_child(ring.get) == b"2"
        assert ring.get() == b"3"  # the child is dead


@isolated()
def test_sides_declared_many_need_no_release() -> None:
    with made(Ring) as ring:
        ring.put(b"1")
        in_child(ring.put, b"2")
        assert in_child(ring.get) == b"1"
        assert ring.get() == b"2"


# --- making one ---


@pytest.mark.parametrize(
    "arguments",
    [
        {"capacity": 0},
        {"capacity": -1},
        {"capacity": "64"},
        {"capacity": 1.5},
        {"capacity": None},
        {"producers": "two"},
        {"producers": 1},
        {"consumers": ""},
        {"consumers": None},
        {"lock": "mutex"},
        {"lock": 1},
        {"spin": -1},
        {"spin": "fast"},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Ring(**arguments)


@pytest.mark.parametrize("spin", [None, 0, 5, 2.5])
def test_every_spin_budget_works(spin: Any) -> None:
    with made(Ring, spin=spin) as ring:
        waiting = in_thread(lambda: ring.get(timeout=60))
        ring.put(b"1")
        assert waiting() == b"1"


def test_stats_can_be_read(ring: Ring) -> None:
    ring.put(b"1")
    assert "park" in str(ring.stats())
