"""Threads of one process on one handle: closing under each other's feet, broken-off calls."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import Any

import pytest
from helpers import in_thread
from isolation import isolated

import shmipc

BIG = 64 << 20


@pytest.mark.parametrize("method", ["get", "acquire", "join"])
@isolated()
def test_closing_ends_the_waits_of_other_threads(method: str) -> None:
    handle: Any
    if method == "acquire":
        handle = shmipc.Lock()
        handle.acquire()
    else:
        handle = shmipc.JoinableQueue()
        if method == "join":
            handle.put(1)
    result = in_thread(getattr(handle, method))
    handle.close()
    with pytest.raises(shmipc.ClosedError):
        result()


@isolated()
def test_a_handle_closed_during_a_long_get_loses_and_doubles_nothing() -> None:
    ring = shmipc.Ring(2 * BIG)
    ring.put(bytes(BIG))
    result = in_thread(ring.get)
    ring.close()
    with contextlib.suppress(shmipc.ClosedError):  # closed before it began
        assert result() == bytes(BIG)


def test_a_timeout_that_runs_code_may_close_the_handle() -> None:
    ring = shmipc.Ring()

    class Closing(Fraction):
        def __float__(self) -> float:
            ring.close()
            return 0.1

    with pytest.raises(shmipc.ClosedError):
        ring.get(timeout=Closing(1, 10))  # type: ignore[arg-type]


def test_what_a_batch_could_not_decode_does_not_take_the_rest_with_it() -> None:
    queue: shmipc.Queue[int] = shmipc.Queue(codec=(lambda obj: str(obj).encode(), int))
    for item in (1, 2, "x", 3):
        queue.put(item)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="invalid literal"):
        queue.get_many(10)
    assert [queue.get(), queue.get_many(5)] == [1, [2, 3]]


def test_a_codec_that_gives_no_bytes_is_an_error_at_put() -> None:
    queue: shmipc.Queue[object] = shmipc.Queue(codec=(lambda obj: None, lambda data: data))  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="NoneType"):
        queue.put(object())
    assert queue.empty()


def test_room_that_was_given_back_can_be_written_over_at_once() -> None:
    """The producer reclaims what consumers have given back, without their help."""
    ring = shmipc.Ring(65536)
    ring.put(b"a" * 1000)
    ring.get()
    count = 0
    while ring.try_put(b"b" * 500):
        count += 1
    assert len(ring.drain()) == count
