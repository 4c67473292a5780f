"""docs/layout.md says what the compiled structs say."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

from shmipc import Lock, Queue, Ring, Segment, SharedArray, Value

DOCUMENT = ROOT / "docs" / "layout.md"
STRUCTS = (
    "shm_header",
    "shm_slot",
    "shm_lock",
    "shm_event",
    "shm_semaphore",
    "shm_bounded",
    "shm_flag",
    "shm_condition",
    "shm_waiter",
    "shm_barrier",
    "shm_rwlock",
    "shm_readers",
    "shm_number",
    "shm_description",
    "shm_ring_control",
    "shm_side",
    "shm_mark",
    "shm_record",
    "shm_peer",
)
FILES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "`Segment` of 100 bytes": (Segment, (100,)),
    "`Lock` with a name": (Lock, ()),
    "`Ring` of 65536 bytes": (Ring, (65536,)),
    "`Value` of an int": (Value, ("i",)),
    "`SharedArray` of 10000 floats": (SharedArray, (10000,)),
    "`Queue` of 65536 bytes": (Queue, (0, 65536)),
}

Member = tuple[int, int, str]  # offset, size, name


def _tables() -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(the heading above it, its columns, its rows) of each table."""
    heading, table = "", list[list[str]]()
    for line in [*DOCUMENT.read_text().splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if table:
            yield heading, table[0], table[2:]
            table = []
        if line.startswith("#"):
            heading = line


def _documented_structs() -> dict[str, tuple[int, list[Member]]]:
    """Size and members of each struct, by its name."""
    found = {}
    for heading, columns, rows in _tables():
        title = re.search(r"`struct (\w+)`, (\d+) bytes", heading)
        if title and columns[:3] == ["offset", "size", "name"]:
            members = [(int(offset), int(size), name.strip("`")) for offset, size, name, _ in rows]
            found[title[1]] = int(title[2]), members
    return found


def _documented_constants() -> dict[str, int]:
    return {
        row[0].strip("`"): int(row[1], 0)
        for _, columns, rows in _tables()
        if columns[:2] == ["name", "value"]
        for row in rows
    }


@cache
def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")


def _evaluate(expressions: list[str], where: Path) -> list[int]:
    """What the compiler makes of each, with layout.h included."""
    compiler = _compiler()
    if compiler is None:
        pytest.skip("needs a C compiler")
    lines = [f'printf("%llu\\n", (unsigned long long)({text}));' for text in expressions]
    source = '#include <stdio.h>\n#include "layout.h"\nint main(void)\n{\n%s\nreturn 0;\n}\n'
    (where / "layout.c").write_text(source % "\n".join(lines))
    command = [compiler, "-std=c11", "-I", str(ROOT / "shmipc" / "_native")]
    subprocess.run([*command, "layout.c", "-o", "layout"], cwd=where, check=True)
    done = subprocess.run(["./layout"], cwd=where, check=True, stdout=subprocess.PIPE, text=True)
    return [int(line) for line in done.stdout.split()]


def test_every_struct_is_documented() -> None:
    assert set(_documented_structs()) == set(STRUCTS)
    header = (ROOT / "shmipc" / "_native" / "layout.h").read_text()
    assert set(re.findall(r"^struct (\w+) \{", header, re.MULTILINE)) == set(STRUCTS)


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_is_as_documented(name: str, tmp_path: Path) -> None:
    size, members = _documented_structs()[name]
    expressions = [f"sizeof(struct {name})"]
    for _, _, member in members:
        expressions.append(f"offsetof(struct {name}, {member})")
        expressions.append(f"sizeof(((struct {name} *)0)->{member})")
    found = _evaluate(expressions, tmp_path)
    assert found[0] == size
    pairs = zip(found[1::2], found[2::2], strict=True)
    names = [member for _, _, member in members]
    assert [(*pair, member) for pair, member in zip(pairs, names, strict=True)] == members


@pytest.mark.parametrize("name", STRUCTS)
def test_a_table_leaves_no_byte_out(name: str) -> None:
    size, members = _documented_structs()[name]
    end = 0
    for offset, length, member in members:
        assert offset == end, member
        end = offset + length
    assert end == size


def test_the_constants_are_as_documented(tmp_path: Path) -> None:
    constants = _documented_constants()
    assert len(constants) > 20
    found = _evaluate(list(constants), tmp_path)
    assert dict(zip(constants, found, strict=True)) == constants


@pytest.mark.parametrize("what", FILES)
def test_a_file_is_as_documented(what: str, tmp_path: Path) -> None:
    (rows,) = [rows for _, columns, rows in _tables() if columns[:2] == ["object", "body at"]]
    documented = {row[0]: [int(number) for number in row[1:]] for row in rows}
    assert documented.keys() == FILES.keys()

    cls, arguments = FILES[what]
    cls.create(tmp_path / "file", *arguments).close()
    content = (tmp_path / "file").read_bytes()
    offsets = {name: offset for offset, _, name in _documented_structs()["shm_header"][1]}
    fields = ["body_offset", "body_size", "data_offset", "data_size", "file_size"]
    found = [struct.unpack_from("=Q", content, offsets[field])[0] for field in fields]
    assert found == documented[what]
    assert len(content) == found[-1]


def test_a_file_begins_with_the_documented_magic(tmp_path: Path) -> None:
    text = DOCUMENT.read_text()
    magic = re.search(r"`magic` \| `((?:[0-9A-F]{2} ){7}[0-9A-F]{2})`", text)
    assert magic
    Lock.create(tmp_path / "file").close()
    assert (tmp_path / "file").read_bytes()[:8] == bytes.fromhex(magic[1])
