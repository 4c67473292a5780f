"""Descriptions of values and arrays that somebody else has written: an error before anything is
written, and never a crash."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import TESTS
from isolation import isolated

from shmipc import Array, CorruptError, LayoutError, RawArray, SharedArray, ShmipcError, Value

BODY = 33792
KIND, LOCK, SIZE, TEXT_SIZE, TEXT = 0, 4, 8, 36, 64


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "file"


def patch(where: Path, offset: int, content: bytes) -> None:
    with where.open("r+b") as file:
        file.seek(BODY + offset)
        file.write(content)


def write_text(where: Path, text: str | bytes, size: int | None = None) -> None:
    """A text in the place of what is there; the body is large enough for it."""
    data = text if isinstance(text, bytes) else text.encode()
    patch(where, TEXT, data)
    patch(where, TEXT_SIZE, struct.pack("<I", len(data)))
    if size is not None:
        patch(where, SIZE, struct.pack("<Q", size))


def refused(door: Any, where: Path, error: Any, *arguments: Any) -> str:
    before = where.read_bytes(), where.stat().st_mtime_ns
    with pytest.raises(error) as raised:
        door.attach(where, *arguments)
    assert (where.read_bytes(), where.stat().st_mtime_ns) == before
    assert str(where) in str(raised.value)
    return str(raised.value)


NUMBERS = [
    (KIND, "<I", [0, 1, 19, 77]),
    (LOCK, "<I", [4, 0xFFFFFFFF]),
    (SIZE, "<Q", [0, 39, 41, 1 << 40, (1 << 64) - 1]),
    (TEXT_SIZE, "<I", [0, 1, 200, 1 << 20, 0xFFFFFFFF]),
]


@pytest.mark.parametrize("offset", range(4))
def test_numbers_of_a_value(offset: int, where: Path) -> None:
    Array.create(where, "i", 10).close()
    field, code, values = NUMBERS[offset]
    for value in values:
        good = where.read_bytes()
        patch(where, field, struct.pack(code, value))
        refused(Array, where, (CorruptError, LayoutError))
        refused(RawArray, where, (CorruptError, LayoutError), "i", 10)
        where.write_bytes(good)
    assert Array.attach(where)[:] == [0] * 10


@pytest.mark.parametrize("offset", range(4))
def test_numbers_of_an_array(offset: int, where: Path) -> None:
    SharedArray.create(where, 10, "i4").close()
    field, code, values = NUMBERS[offset]
    for value in values:
        if (field, value) == (KIND, 19):
            continue
        good = where.read_bytes()
        patch(where, field, struct.pack(code, value))
        refused(SharedArray, where, CorruptError)
        where.write_bytes(good)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ii",
        "P",
        "O",
        "z[5]",
        "i[10",
        "i[-10]",
        "i[10] ",
        "i[4][10]",
        "i[" + "9" * 18 + "]",
        "i[" + "9" * 50 + "]",
        "i" + "[10]" * 9,
        ">",
        "[10]",
        "struct{x:i@0,4}",
        b"\xff\xfe[10]",
        b"i[1\0]",
    ],
    ids=repr,
)
def test_texts_of_a_value(text: Any, where: Path) -> None:
    RawArray.create(where, "i", 10).close()
    write_text(where, text)
    for arguments in ((), ("i",), ("i", 10)):
        refused(RawArray, where, (CorruptError, LayoutError), *arguments)
    refused(Value, where, (CorruptError, LayoutError))


def described(shape: Any = (10,), order: Any = "C", dtype: Any = "<i4", **more: Any) -> str:
    facts = {"shape": shape, "order": order, "dtype": dtype} | more
    return json.dumps(facts, separators=(",", ":"))


def fields(*found: Any, size: Any = 4) -> str:
    return described(dtype={"fields": found, "size": size})


FORGED = [
    "",
    "{}",
    "[]",
    "null",
    "7",
    "[" * 60,
    described() + " ",
    described().replace(",", ", "),
    described().replace("shape", "SHAPE"),
    described(extra=1),
    described(shape=[11]),
    described(shape=[9]),
    described(shape=[-10]),
    described(shape=[10.0]),
    described(shape=[True] * 2),
    described(shape=["10"]),
    described(shape=10),
    described(shape="10"),
    described(shape=[1 << 63, 0]),
    described(shape=[1 << 62, 4]),
    described(shape=[1 << 32, 1 << 32, 10]),
    described(shape=[10] + [1] * 70),
    described(order="K"),
    described(order=None),
    described(order="F"),
    described(dtype="O"),
    described(dtype="|O4"),
    described(dtype="|O8", shape=[5]),
    described(dtype="i4"),
    described(dtype="=i4"),
    described(dtype="<i4,<i4"),
    described(dtype="(2,)i4"),
    described(dtype="<U1000000000000"),
    described(dtype="float64"),
    described(dtype="int32"),
    described(dtype=4),
    described(dtype=None),
    described(dtype=[]),
    described(dtype=["<i4"]),
    described(dtype=["<i4", [1]]),
    described(dtype=["<i2", [2]]),
    described(dtype=["<i4", 1, 2]),
    described(dtype=["<i4", [-1]]),
    described(dtype=["<i4", [1 << 62]]),
    described(dtype={}),
    fields(["a", "<i4", 1]),
    fields(["a", "<i4", -1]),
    fields(["a", "<i4", 0], ["a", "<i4", 0]),
    fields(["a", "|O4", 0]),
    fields(["a", "<i4"]),
    fields(["a", "<i4", "0"]),
    fields([1, "<i4", 0]),
    fields(["a", "<i4", 0], size=-4),
    fields(["a", "<i4", 0], size=1 << 40),
    fields(["a", "<i4", 0, None]),
    fields(["a", "<i4", 0, ["title"]]),
    fields(["a", "<i4", 0, "t", "u"]),
    fields("abc"),
]


@pytest.mark.parametrize("text", FORGED)
def test_texts_of_an_array(text: str, where: Path) -> None:
    long = np_dtype_of_many_fields()
    SharedArray.create(where, 1, long).close()  # room for any of the texts
    size = struct.unpack_from("<Q", where.read_bytes(), BODY + SIZE)[0]
    assert size == 40
    write_text(where, text)
    message = refused(SharedArray, where, CorruptError)
    assert "expected the description of an array of 40 bytes" in message


def test_a_text_that_is_as_good_as_its_own_is_taken(where: Path) -> None:
    SharedArray.create(where, 1, np_dtype_of_many_fields()).close()
    for text in (described(), described(shape=[5, 2]), described(shape=[5], dtype="<f8")):
        write_text(where, text)
        assert SharedArray.attach(where).nbytes == 40
    SharedArray.unlink(where)


def np_dtype_of_many_fields() -> Any:
    return [(f"a field with a long name {n}", "u1") for n in range(40)]


def test_a_text_of_very_many_brackets(where: Path) -> None:
    SharedArray.create(where, 1, [(f"{n}", "u1") for n in range(5000)]).close()
    for text in ("[" * 50_000, '{"dtype":' * 5000, "[" * 20_000 + "]" * 20_000, "9" * 50_000):
        write_text(where, text)
        refused(SharedArray, where, CorruptError)


@pytest.mark.parametrize("cls", [Array, SharedArray], ids=["Array", "SharedArray"])
@isolated(limit=120)
def test_flipped_bytes_of_a_description(cls: Any, tmp_path: Path) -> None:
    rng = random.Random(5)
    where = tmp_path / "file"
    cls.create(where, *(("h", 500) if cls is Array else (100, [("a", "i2"), ("b", "M8[ms]")])))
    good = where.read_bytes()
    for _ in range(1000):
        damaged = bytearray(good)
        for _ in range(rng.choice((1, 2, 5))):
            damaged[BODY + rng.randrange(200)] = rng.choice((0, 0xFF, *b'[]{}:,"0159<>|iIcMOS@'))
        where.write_bytes(damaged)
        with suppress(ShmipcError):
            if cls is Array:
                bytes(Array.attach(where, lock=False))
            else:
                SharedArray.attach(where).tobytes()


SMALL = """
import sys, errno, shmipc
from shmipc import Array, Value, SharedArray
for make in (
    lambda: SharedArray.create("x", 10_000_000),
    lambda: Array.create("x", "d", 10_000_000),
    lambda: [SharedArray.create(f"y{n}", 100_000, unlink="last") for n in range(50)],
):
    try:
        make()
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        print(error.strerror[:8])
Value.create("v", "i", unlink="last").value = 5
"""


def test_a_full_file_system_is_an_error_at_creation(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=8m tmpfs {tmp_path}"
    try:
        subprocess.run(["unshare", "-m", "sh", "-ec", mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs to mount")
    command = f'{mount}; "$0" -P -c "$1"; test -z "$(ls -A {tmp_path})"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", command, sys.executable, SMALL],
        capture_output=True,
        text=True,
        env=os.environ | {"SHMIPC_DIR": str(tmp_path), "PYTHONPATH": str(TESTS)},
    )
    assert (done.stdout, done.stderr) == ("expected\n" * 3, "")
