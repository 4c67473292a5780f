"""Memory is committed at creation: what there is no room for is an error then, with a hint."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import file_of
from isolation import isolated

from shmipc import Queue, Ring, Segment

TOO_MUCH = 1 << 47
SIZED = [(Segment, "size"), (Ring, "capacity"), (Queue, "capacity")]


def _assert_no_space(error: OSError) -> None:
    assert error.errno == errno.ENOSPC
    assert len(str(error)) > len(os.strerror(errno.ENOSPC)) + 30, f"no hint: {error}"


@pytest.mark.parametrize(("cls", "option"), SIZED)
def test_more_than_the_machine_has(cls: Any, option: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(OSError) as anonymous:
        cls(**{option: TOO_MUCH})
    _assert_no_space(anonymous.value)
    with pytest.raises(OSError) as named:
        cls.create(name, **{option: TOO_MUCH})
    _assert_no_space(named.value)
    assert not file_of(name).exists()
    with pytest.raises(OSError) as filed:
        cls.create(tmp_path / "thing", **{option: TOO_MUCH})
    _assert_no_space(filed.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("cls", "option"), SIZED)
@isolated()
def test_a_small_file_system_is_full(cls: Any, option: str, tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "shmipc-test", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    os.environ["SHMIPC_DIR"] = str(tmp_path)
    try:
        with pytest.raises(OSError) as error:
            cls.create("large", **{option: 16 << 20})
        _assert_no_space(error.value)
        assert not any(tmp_path.iterdir())
        small = cls.create("small", **{option: 64 << 10})
        assert small.path == str(tmp_path / "shmipc.small")
        small.unlink()
        small.close()
        assert os.statvfs(tmp_path).f_bfree == os.statvfs(tmp_path).f_blocks
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@isolated()
def test_what_was_created_is_committed(tmp_path: Path) -> None:
    """A segment's room is taken when it is made, not when it is written."""
    with Segment.create(tmp_path / "thing", 1 << 20):
        assert (tmp_path / "thing").stat().st_blocks * 512 >= 1 << 20
