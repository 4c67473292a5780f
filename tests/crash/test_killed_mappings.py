"""SIGKILL at random moments of a process that writes to a mapping and changes its length."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import NoReturn

import pytest
from helpers import KILLS, Forked
from isolation import isolated

from shmipc import Mapping, guard_faults

SIZE = 1 << 20
PAGE = 4096


def write_for_ever(mapping: Mapping) -> NoReturn:
    rng = random.Random(1)
    while True:
        mapping[0] = rng.randrange(1, 3)
        mapping[PAGE:SIZE] = bytes([rng.randrange(1, 3)]) * (SIZE - PAGE)
        mapping.move(PAGE, SIZE // 2, SIZE // 2)
        if mapping.max_size:
            mapping.resize(SIZE + PAGE * rng.randrange(8))
            mapping.refresh()


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("guard", [False, True], ids=["copies", "guarded"])
@pytest.mark.parametrize("kind", ["memfd", "file"])
@isolated(limit=120)
def test_others_go_on_with_what_a_killed_writer_left(
    kind: str, guard: bool, kills: int, tmp_path: Path
) -> None:
    """A slice may be half written; each byte is one that somebody wrote."""
    if guard:
        guard_faults()
    path = tmp_path / "file"
    path.write_bytes(b"\1" * SIZE)
    rng = random.Random(kills)
    with (
        Mapping(SIZE) if kind == "memfd" else Mapping.open(path, "rw", max_size=2 * SIZE)
    ) as mapping:
        mapping[:SIZE] = b"\1" * SIZE
        for _ in range(kills):
            child = Forked(write_for_ever, mapping)
            time.sleep(rng.random() / 50)
            child.kill()
            mapping.refresh()
            assert len(mapping) >= SIZE
            assert mapping[0] in (1, 2)
            assert set(mapping[:SIZE]) <= {1, 2}
            mapping[0] = 1
            assert mapping[0] == 1
