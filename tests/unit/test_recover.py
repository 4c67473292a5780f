"""A file that was in use when the machine went down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import shmipc

BOOT = 240
"""Where the boot's identity stands in the header; docs/layout.md."""


def left_by_another_boot(cls: Any, path: Path, *args: Any) -> Any:
    """An object at `path` that says it is in use since another boot; its handle stays open, so
    that nobody has marked the file as cleanly closed."""
    handle = cls.create(path, *args)
    with path.open("r+b") as file:
        file.seek(BOOT)
        file.write(bytes(16))
    return handle


def leave(handle: Any, path: Path) -> None:
    """As a process that was not there to see the end: without a mark."""
    content = path.read_bytes()
    handle.close()
    path.write_bytes(content)


@pytest.mark.parametrize("cls", [shmipc.Ring, shmipc.Queue, shmipc.Lock, shmipc.JoinableQueue])
def test_it_is_refused_until_it_is_recovered(cls: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    leave(left_by_another_boot(cls, path), path)
    with pytest.raises(shmipc.BrokenError, match="recover"):
        cls.attach(path)
    cls.recover(path)
    cls.attach(path).close()


def test_a_ring_is_empty_after_it_and_keeps_its_parameters(tmp_path: Path) -> None:
    path = tmp_path / "file"
    ring = left_by_another_boot(shmipc.Ring, path, 1 << 17)
    ring.put(b"may be half written")
    leave(ring, path)
    shmipc.Ring.recover(path)
    with shmipc.Ring.attach(path) as ring:
        assert (len(ring), ring.capacity) == (0, 1 << 17)
        ring.put(b"new")
        assert ring.get() == b"new"


def test_a_segment_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    segment = left_by_another_boot(shmipc.Segment, path, 4)
    segment.buf[:] = b"data"
    leave(segment, path)
    shmipc.Segment.recover(path)
    with shmipc.Segment.attach(path) as segment:
        assert bytes(segment.buf) == b"data"


def test_a_file_in_use_is_not_recovered(tmp_path: Path) -> None:
    with (
        shmipc.Ring.create(tmp_path / "file") as ring,
        pytest.raises(shmipc.BusyError),
    ):
        ring.put(b"x")
        shmipc.Ring.recover(tmp_path / "file")


def test_a_file_that_was_closed_in_order_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with shmipc.Ring.create(path) as ring:
        ring.put(b"kept")
    content = bytearray(path.read_bytes())
    content[BOOT : BOOT + 16] = bytes(16)
    path.write_bytes(content)
    with shmipc.Ring.attach(path) as ring:
        assert ring.get() == b"kept"
