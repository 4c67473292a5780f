"""Ring against a plain deque: random operations of random sizes over a small ring."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmipc import Empty, Full, Queue, Ring

CAPACITY = 4096

sizes = st.one_of(st.integers(0, 16), st.integers(0, 600), st.integers(0, 3 * CAPACITY))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), sizes),
        st.tuples(st.just("try_put"), sizes),
        st.tuples(st.just("put_many"), st.lists(sizes, max_size=8)),
        st.tuples(st.just("get"), st.none()),
        st.tuples(st.just("try_get"), st.none()),
        st.tuples(st.just("get_many"), st.integers(1, 8)),
        st.tuples(st.just("drain"), st.none()),
    ),
    max_size=60,
)
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Model:
    """A ring and the deque that says what must be in it."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.expected: deque[bytes] = deque()
        self.serial = 0

    def message(self, size: int) -> bytes:
        self.serial += 1
        return bytes([self.serial % 256]) * size

    def room_is_needed(self, message: bytes) -> None:
        """A refusal is right only while messages wait."""
        assert self.expected, f"{len(message)} bytes refused by an empty ring"

    def try_put(self, size: int) -> None:
        message = self.message(size)
        if size > self.ring.max_message:
            with pytest.raises(ValueError):
                self.ring.try_put(message)
        elif self.ring.try_put(message):
            self.expected.append(message)
        else:
            self.room_is_needed(message)

    def put(self, size: int) -> None:
        message = self.message(size)
        try:
            self.ring.put(message, block=False)
            self.expected.append(message)
        except Full:
            self.room_is_needed(message)
        except ValueError:
            assert size > self.ring.max_message

    def put_many(self, sizes: list[int]) -> None:
        messages = [self.message(min(size, self.ring.max_message)) for size in sizes]
        try:
            count = self.ring.put_many(messages, block=False)
            assert count == len(messages)
        except Full as full:
            count = full.count
            assert count < len(messages)
        self.expected.extend(messages[:count])

    def get(self, _: None) -> None:
        if self.expected:
            assert self.ring.get(block=False) == self.expected.popleft()
        else:
            with pytest.raises(Empty):
                self.ring.get(block=False)

    def try_get(self, _: None) -> None:
        assert self.ring.try_get() == (self.expected.popleft() if self.expected else None)

    def get_many(self, most: int) -> None:
        if self.expected:
            taken = self.ring.get_many(most)
            assert taken == [self.expected.popleft() for _ in taken]
            assert len(taken) == most or not self.expected
        else:
            with pytest.raises(Empty):
                self.ring.get_many(most, timeout=0)

    def drain(self, _: None) -> None:
        assert self.ring.drain() == list(self.expected)
        self.expected.clear()


@pytest.mark.parametrize("side", ["one", "many"])
@pytest.mark.parametrize("lock", ["futex", "semaphore"])
def test_a_ring_is_a_bounded_deque(lock: Any, side: Any) -> None:
    @thorough
    @given(operations)
    def check(steps: list[tuple[str, object]]) -> None:
        with Ring(CAPACITY, lock=lock, producers=side, consumers=side) as ring:
            model = Model(ring)
            for operation, argument in steps:
                getattr(model, operation)(argument)
                assert len(ring) == len(model.expected)
            model.drain(None)

    check()


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.binary()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


def test_a_queue_gives_back_equal_objects_in_order() -> None:
    with Queue[object](capacity=1 << 16) as queue:

        @settings(thorough, max_examples=50)
        @given(st.lists(json_like, max_size=20))
        def check(objects: list[object]) -> None:
            for thing in objects:
                queue.put(thing)
            assert [queue.get(timeout=60) for _ in objects] == objects
            assert queue.empty()

        check()
