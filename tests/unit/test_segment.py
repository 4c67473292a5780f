"""Segment: shared bytes as a memoryview."""

from __future__ import annotations

import array
import os
from typing import Any

import pytest
from helpers import in_child
from isolation import isolated

from shmipc import ClosedError, Segment

numpy = pytest.importorskip("numpy")


@pytest.mark.parametrize("size", [1, 7, 4096, 4097, 1 << 20])
def test_a_segment_has_exactly_the_bytes_asked_for_and_they_are_zero(size: int) -> None:
    with Segment(size) as segment:
        view = memoryview(segment)
        assert (len(segment), view.nbytes, len(segment.buf)) == (size, size, size)
        assert (view.format, view.itemsize, view.ndim, view.readonly) == ("B", 1, 1, False)
        assert bytes(view) == bytes(size)


def test_every_byte_is_the_users_own() -> None:
    content = os.urandom(10_000)
    with Segment(len(content)) as segment:
        segment.buf[:] = content
        assert bytes(memoryview(segment)) == content


@isolated()
def test_a_child_and_its_parent_see_the_same_bytes() -> None:
    with Segment(64) as segment:
        in_child(segment.buf.__setitem__, 5, 99)
        assert segment.buf[5] == 99
        segment.buf[6] = 98
        assert in_child(segment.buf.__getitem__, 6) == 98


def test_attached_handles_see_the_same_bytes(name: str) -> None:
    with Segment.create(name, 4096) as first, Segment.attach(name) as second:
        assert len(second) == 4096
        first.buf[4095] = 1
        assert second.buf[4095] == 1
        first.unlink()


@pytest.mark.parametrize("view", [memoryview, numpy.asarray, lambda segment: segment.buf])
def test_views_outlive_close(view: Any) -> None:
    segment = Segment(4096)
    seen = view(segment)
    part = seen[100:200]
    segment.close()
    del segment, seen
    part[3] = 7
    assert part[3] == 7


def test_the_bytes_under_a_view_outlive_unlink_and_close(name: str) -> None:
    with Segment.create(name, 64) as segment:
        segment.buf[:3] = b"abc"
        view = memoryview(segment)
        segment.unlink()
    assert bytes(view[:3]) == b"abc"


def test_numpy_writes_without_a_copy() -> None:
    with Segment(80) as segment:
        numbers = numpy.frombuffer(segment, dtype=numpy.int64)
        numbers[:] = range(10)
        assert array.array("q", bytes(segment.buf)).tolist() == list(range(10))


@pytest.mark.parametrize("use", [memoryview, lambda segment: segment.buf])
def test_no_new_view_after_close(use: Any) -> None:
    segment = Segment(64)
    segment.close()
    with pytest.raises(ClosedError):
        use(segment)


def test_leaving_with_closes() -> None:
    with Segment(64) as segment:
        pass
    assert segment.closed


@pytest.mark.parametrize(
    ("size", "error"),
    [(0, ValueError), (-1, ValueError), ("8", TypeError), (1.5, TypeError), (None, TypeError)],
)
def test_a_bad_size_is_refused(size: Any, error: Any, name: str) -> None:
    with pytest.raises(error):
        Segment(size)
    with pytest.raises(error):
        Segment.create(name, size)
    with pytest.raises(FileNotFoundError):
        Segment.attach(name)


def test_a_size_beyond_every_machine_is_refused() -> None:
    with pytest.raises((ValueError, OSError)):
        Segment(1 << 70)
