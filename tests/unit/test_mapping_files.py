"""Mapping beside mmap.mmap on the same bytes, and what both are used for."""

from __future__ import annotations

import bisect
import csv
import ctypes
import errno
import gc
import gzip
import hashlib
import io
import json
import mmap
import os
import pickle
import random
import re
import shutil
import socket
import struct
import tarfile
import weakref
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import Forked, Gate, in_child, in_thread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isolation import isolated

import shmipc
from shmipc import ClosedError, Mapping, Reader, Segment
from shmipc.mapping import Advice

numpy = pytest.importorskip("numpy")

PAGE = mmap.PAGESIZE
SIZES = (1, 7, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 5)
thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- random operations --------------------------------------------------------------------------


def with_content(m: Any, content: bytes) -> Any:
    m[:] = content
    return m


def behind(where: Path, content: bytes, **options: Any) -> Any:
    """The content in a file, after 4097 bytes that are not mapped."""
    where.write_bytes(b"#" * 4097 + content)
    return Mapping.open(where, offset=4097, **options)


def at_start(where: Path, content: bytes, access: Any, **options: Any) -> Any:
    where.write_bytes(content)
    return Mapping.open(where, access, **options)


DOORS: dict[str, Callable[[Path, bytes], Any]] = {
    "file": lambda where, content: at_start(where, content, "rw"),
    "roomy": lambda where, content: at_start(where, content, "rw", max_size=1 << 20),
    "copy": lambda where, content: at_start(where, content, "copy"),
    "read-only": lambda where, content: at_start(where, content, "r"),
    "unaligned": lambda where, content: behind(where, content, access="rw"),
    "memfd": lambda where, content: with_content(Mapping(len(content)), content),
    "shared": lambda where, content: with_content(Mapping.anonymous(len(content)), content),
    "private": lambda where, content: with_content(Mapping.anonymous(len(content), False), content),
    "segment": lambda where, content: with_content(Segment(len(content)), content),
}
RESIZABLE = ("file", "roomy")
ACCESS = {"copy": mmap.ACCESS_COPY, "read-only": mmap.ACCESS_READ}


@contextmanager
def plain_mmap(where: Path, content: bytes, door: str) -> Iterator[mmap.mmap]:
    where.write_bytes(content)
    with (
        where.open("r+b") as file,
        mmap.mmap(file.fileno(), 0, access=ACCESS.get(door, mmap.ACCESS_WRITE)) as plain,
    ):
        yield plain


def set_item(m: Any, index: Any, value: Any) -> None:
    m[index] = value


def set_slice(m: Any, where: slice, data: bytes, fit: bool) -> None:
    """Assigns the data, or as much of it, repeated, as the slice takes."""
    if fit:
        count = len(range(*where.indices(len(m))))
        data = (data * count)[:count] if data else bytes(count)
    m[where] = data


def seek(m: Any, *args: Any) -> int:
    m.seek(*args)  # mmap's returns the position from 3.13 on
    return int(m.tell())


OPERATIONS: dict[str, Callable[..., Any]] = {
    "length": len,
    "get": lambda m, index: m[index],
    "slice": lambda m, where: m[where],
    "set": set_item,
    "set_slice": set_slice,
    "find": lambda m, *args: m.find(*args),
    "rfind": lambda m, *args: m.rfind(*args),
    "read": lambda m, *args: m.read(*args),
    "read_byte": lambda m: m.read_byte(),
    "readline": lambda m: m.readline(),
    "seek": seek,
    "tell": lambda m: m.tell(),
    "write": lambda m, data: m.write(data),
    "write_byte": lambda m, byte: m.write_byte(byte),
    "move": lambda m, *args: m.move(*args),
    "resize": lambda m, size: m.resize(size),
    "size": lambda m: m.size(),
    "flush": lambda m: m.flush(),
    "iterate": lambda m: b"".join(m),
    "buffer": lambda m: bytes(memoryview(m)),
    "search": lambda m: [found.span() for found in re.finditer(b"ab+", m)],
}

letters = st.lists(st.sampled_from(b"ab\n\0"), max_size=6).map(bytes)
inside = st.one_of(
    st.integers(-5, 5), st.integers(-3 * PAGE, 3 * PAGE), st.integers(-(1 << 62), 1 << 62)
)
odd = st.sampled_from([None, "x", 1.5, b"x", 1 << 70, -(1 << 70)])
indices = st.one_of(inside, inside, inside, odd)
bounds = st.one_of(st.none(), inside)
slices = st.builds(slice, bounds, bounds, st.one_of(st.none(), st.integers(-5, 5)))
arguments: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "get": st.tuples(indices),
    "slice": st.tuples(slices),
    "set": st.one_of(
        st.tuples(indices, st.integers(0, 255)),
        st.tuples(st.sampled_from([0, -1]), st.sampled_from([-1, 256, None, "x", 1.5, b"x"])),
    ),
    "set_slice": st.tuples(slices, letters, st.booleans()),
    "find": st.lists(inside, max_size=2).flatmap(lambda b: letters.map(lambda s: (s, *b))),
    "rfind": st.lists(inside, max_size=2).flatmap(lambda b: letters.map(lambda s: (s, *b))),
    "read": st.one_of(st.just(()), st.tuples(st.one_of(bounds, odd))),
    "seek": st.one_of(st.tuples(indices), st.tuples(inside, st.integers(-1, 3))),
    "write": st.tuples(st.one_of(letters, letters, st.sampled_from(["text", None, 5]))),
    "write_byte": st.tuples(st.integers(0, 255)),
    "move": st.tuples(*[st.one_of(st.integers(-1, 100), inside)] * 3),
    "resize": st.tuples(st.sampled_from(SIZES)),
}
operations = st.lists(
    st.sampled_from(sorted(OPERATIONS)).flatmap(
        lambda name: st.tuples(st.just(name), arguments.get(name, st.just(())))
    ),
    max_size=40,
)


def outcome(operation: Callable[..., Any], m: Any, args: tuple[Any, ...]) -> Any:
    """What it returns or raises."""
    try:
        return operation(m, *args)
    except Exception as error:
        return error


def check_step(ours: Any, theirs: Any, step: str, args: tuple[Any, ...]) -> None:
    """The same operation has the same result; where mmap raises, an error of its type."""
    found = outcome(OPERATIONS[step], ours, args)
    expected = outcome(OPERATIONS[step], theirs, args)
    if isinstance(expected, TypeError) and "readonly" in str(expected):
        assert isinstance(found, (TypeError, IndexError, ValueError)), f"{step}{args}: {found!r}"
    elif isinstance(expected, Exception):
        assert isinstance(found, type(expected)), f"{step}{args}: {found!r}, {expected!r}"
    else:
        assert found == expected and type(found) is type(expected), f"{step}{args}"


@pytest.mark.parametrize("guarded", [False, True], ids=["copies", "guarded"])
@pytest.mark.parametrize("door", DOORS)
@isolated(limit=300)
def test_a_mapping_does_what_an_mmap_does(door: str, guarded: bool, tmp_path: Path) -> None:
    if guarded:
        shmipc.guard_faults()

    @thorough
    @given(st.sampled_from(SIZES), st.integers(0, 9), operations)
    def check(size: int, seed: int, steps: list[tuple[str, tuple[Any, ...]]]) -> None:
        content = bytes(random.Random(seed).choices(b"ab\n\0", k=size))
        with (
            plain_mmap(tmp_path / "plain", content, door) as theirs,
            DOORS[door](tmp_path / "ours", content) as ours,
        ):
            for step, args in steps:
                if step == "resize" and door not in RESIZABLE and door != "read-only":
                    continue
                if step == "size" and door == "unaligned":
                    continue
                check_step(ours, theirs, step, args)
                assert (len(ours), ours.tell()) == (len(theirs), theirs.tell())
            assert ours[:] == theirs[:]
        if door in (*RESIZABLE, "copy", "read-only"):
            assert (tmp_path / "ours").read_bytes() == (tmp_path / "plain").read_bytes()

    check()


@isolated()
def test_random_slices_of_a_large_file(tmp_path: Path) -> None:
    """Long copies take another way than short ones."""
    rng = random.Random(7)
    expected = bytearray(rng.randbytes(3_000_017))
    where = tmp_path / "large"
    where.write_bytes(expected)
    with Mapping.open(where, "rw", offset=4097) as m:
        del expected[:4097]
        for _ in range(200):
            start, stop = sorted(rng.choices(range(len(expected) + 1), k=2))
            step = rng.choice((1, 1, 2, 7, -1, -3))
            part = slice(start, stop, step) if step > 0 else slice(stop, start, step)
            assert m[part] == expected[part]
            if step == 1 or abs(stop - start) < 100_000:
                data = rng.randbytes(len(range(*part.indices(len(m)))))
                m[part] = expected[part] = data
            count = min(len(expected) - start, len(expected) - stop, 500_000)
            m.move(start, stop, count)
            expected[start : start + count] = expected[stop : stop + count]
            needle = bytes(expected[stop - 9 : stop])
            assert m.find(needle, 0) == expected.find(needle)
            assert m.rfind(needle, 0, len(m)) == expected.rfind(needle)
        assert m[:] == expected
    assert where.read_bytes()[4097:] == expected


@isolated()
def test_a_mapping_is_assigned_from_itself(tmp_path: Path) -> None:
    """The parts may overlap."""
    size = 1 << 20
    for door in ("file", "copy", "unaligned", "memfd", "private", "segment"):
        expected = bytearray(random.Random(1).randbytes(2 * size))
        with DOORS[door](tmp_path / "ours", bytes(expected)) as m:
            for start, to in ((0, 1), (1, 0), (0, 5000), (5000, 0), (0, 300_000), (70_000, 4096)):
                with memoryview(m) as view:
                    m[to : to + size] = view[start : start + size]
                expected[to : to + size] = expected[start : start + size]
                assert m[:] == expected, f"{door}: {start} to {to}"
                m.move(start, to + 7, size)
                expected[start : start + size] = expected[to + 7 : to + 7 + size]
                assert m[:] == expected


# --- quirks -------------------------------------------------------------------------------------


@pytest.fixture(params=["plain", "ours", "segment"])
def m(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """`one two three two one`, in an mmap.mmap, a Mapping or a Segment."""
    content = b"one\ntwo\nthree\ntwo\none"
    where = tmp_path / "file"
    if request.param == "plain":
        with plain_mmap(where, content, "") as plain:
            yield plain
    else:
        door = "segment" if request.param == "segment" else "file"
        with DOORS[door](where, content) as ours:
            yield ours


def test_a_search_starts_at_the_position(m: Any) -> None:
    assert m.find(b"one") == 0
    m.seek(3)
    assert (m.find(b"one"), m.rfind(b"two"), m.tell()) == (18, 14, 3)
    assert (m.find(b"one", 0), m.find(b"two", -7), m.find(b"two", 5, 9)) == (0, 14, -1)
    assert (m.rfind(b"one", 0), m.rfind(b"one", 0, -1), m.rfind(b"two", 5, -1)) == (18, 0, 14)
    m.seek(0, os.SEEK_END)
    assert (m.find(b"one"), m.find(b"")) == (-1, 21)
    assert (m.find(b"", 0), m.rfind(b"", 0), m.find(b"", 5, 3)) == (0, 21, -1)


def test_items_are_numbers_and_iteration_gives_bytes(m: Any) -> None:
    assert (m[0], m[-1], m[0:1]) == (ord("o"), ord("e"), b"o")
    assert list(m)[:4] == [b"o", b"n", b"e", b"\n"]
    assert b"t" in m and b"x" not in m
    m[0] = 79
    m[1:3] = bytearray(b"NE")
    m[4:7] = memoryview(b"TWO")
    assert m[:7] == b"ONE\nTWO"


def test_lines_end_with_the_file(m: Any) -> None:
    assert list(iter(m.readline, b"")) == [b"one\n", b"two\n", b"three\n", b"two\n", b"one"]
    assert (m.tell(), m.readline(), m.read(), m.read(5)) == (21, b"", b"", b"")


def test_a_write_that_does_not_fit_writes_nothing(m: Any) -> None:
    m.seek(-2, os.SEEK_END)
    with pytest.raises(ValueError):
        m.write(b"xyz")
    assert (m.tell(), m[-3:]) == (19, b"one")
    assert m.write(b"xy") == 2
    with pytest.raises(ValueError):
        m.write_byte(1)
    with pytest.raises(ValueError):
        m.read_byte()
    assert (m.tell(), m[-3:], m.write(b"")) == (21, b"oxy", 0)


def test_the_position_stays_within(m: Any) -> None:
    m.seek(5)
    for args in ((-1,), (22,), (-6, os.SEEK_CUR), (17, 1), (1, 2), (-22, 2), (0, 3), (0, -1)):
        with pytest.raises(ValueError):
            m.seek(*args)
    for huge in (1 << 70, -(1 << 70)):
        with pytest.raises(OverflowError):
            m.seek(huge)
    with pytest.raises(TypeError):
        m.seek("5")
    assert m.tell() == 5
    m.seek(16, 1)
    assert m.tell() == 21


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda m: m[21], IndexError),
        (lambda m: m[-22], IndexError),
        (lambda m: m[1 << 70], IndexError),
        (lambda m: m["x"], TypeError),
        (lambda m: m[None], TypeError),
        (lambda m: m[1.0], TypeError),
        (lambda m: m[0, 1], TypeError),
        (lambda m: m[::0], ValueError),
        (lambda m: m["x":], TypeError),
        (lambda m: set_item(m, 21, 0), IndexError),
        (lambda m: set_item(m, 0, 256), ValueError),
        (lambda m: set_item(m, 0, -1), ValueError),
        (lambda m: set_item(m, 0, b"x"), TypeError),
        (lambda m: set_item(m, 0, None), TypeError),
        (lambda m: set_item(m, slice(0, 2), b"x"), (IndexError, ValueError)),
        (lambda m: set_item(m, slice(0, 2), b"xyz"), (IndexError, ValueError)),
        (lambda m: set_item(m, slice(0, 4, 2), b"xyz"), (IndexError, ValueError)),
        (lambda m: set_item(m, slice(0, 2), "xy"), TypeError),
        (lambda m: set_item(m, slice(0, 2), [1, 2]), TypeError),
        (lambda m: m.__delitem__(0), (TypeError, AttributeError)),
        (lambda m: m.find("x"), TypeError),
        (lambda m: m.find(), TypeError),
        (lambda m: m.find(b"x", "0"), TypeError),
        (lambda m: m.read("x"), TypeError),
        (lambda m: m.read(1.5), TypeError),
        (lambda m: m.read_byte(1), TypeError),
        (lambda m: m.write("x"), TypeError),
        (lambda m: m.write_byte(b"x"), TypeError),
        (lambda m: m.move(0, 1), TypeError),
        (lambda m: m.move(0, 1, 21), ValueError),
        (lambda m: m.move(0, 1, -1), ValueError),
        (lambda m: m.move(-1, 0, 1), ValueError),
        (lambda m: m.move(22, 0, 0), ValueError),
        (lambda m: m.move(0, 0, 1 << 70), OverflowError),
        (lambda m: m.madvise(9999), OSError),
        (lambda m: m.madvise(mmap.MADV_NORMAL, 22), ValueError),
        (lambda m: m.madvise(mmap.MADV_NORMAL, -1), ValueError),
        (lambda m: m.flush(0, 22), (ValueError, OSError)),
        (lambda m: m.flush(-1, 2), (ValueError, OSError)),
    ],
)
def test_errors_are_of_the_same_type(m: Any, use: Any, error: Any) -> None:
    with pytest.raises(error):
        use(m)
    assert m[:] == b"one\ntwo\nthree\ntwo\none"


def test_what_it_is_for_others(m: Any, tmp_path: Path) -> None:
    view = memoryview(m)
    assert (view.format, view.itemsize, view.ndim, view.nbytes) == ("B", 1, 1, 21)
    assert (view.c_contiguous, view.readonly) == (True, False)
    with pytest.raises((BufferError, AssertionError)):
        if isinstance(m, Segment):
            raise AssertionError("views of a segment outlive it")
        m.close()
    view.release()
    assert not m.closed
    assert m.__enter__() is m
    assert weakref.ref(m)() is m
    assert m in {m} and hash(m) == hash(m)
    assert m and len(m) == 21
    with pytest.raises(TypeError):
        m < m  # noqa: B015
    m.close()
    assert m.closed
    m.close()
    for use in (len, bytes, memoryview, list, lambda m: m.read(), lambda m: m[0]):
        with pytest.raises(ValueError):
            use(m)


def test_a_resize_keeps_the_position(tmp_path: Path) -> None:
    content = bytes(range(200))
    with (
        plain_mmap(tmp_path / "plain", content, "") as plain,
        DOORS["file"](tmp_path / "ours", content) as ours,
    ):
        for m in (plain, ours):
            m.seek(150)
            m.resize(100)
            assert (m.tell(), m.read(), m.read(5), m.readline(), m.tell()) == (150, *[b""] * 3, 150)
            with pytest.raises(ValueError):
                m.write(b"x")
            with pytest.raises(ValueError):
                m.read_byte()
            assert m.find(b"\5") == -1
            m.resize(300)
            assert (m.read(), m.size(), len(m)) == (bytes(150), 300, 300)


def test_containment_goes_beyond_mmap(tmp_path: Path) -> None:
    with DOORS["file"](tmp_path / "ours", b"one\ntwo") as m:
        m.seek(5)
        assert b"e\nt" in m and b"one\ntwo" in m and b"" in m
        assert 10 in m and ord("o") in m
        assert b"two\n" not in m and 0 not in m
        for wrong in (256, -1):
            with pytest.raises(ValueError):
                wrong in m  # noqa: B015
        for strange in ("one", None, 1.5):
            with pytest.raises(TypeError):
                strange in m  # type: ignore[operator]  # noqa: B015


# --- real uses ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library() -> bytes:
    """The source text of the standard library's modules."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    return b"".join(file.read_bytes() for file in files)


@pytest.mark.parametrize("guarded", [False, True], ids=["copies", "guarded"])
@isolated()
def test_a_text_corpus_is_searched(library: bytes, guarded: bool, tmp_path: Path) -> None:
    if guarded:
        shmipc.guard_faults()
    where = tmp_path / "corpus"
    where.write_bytes(library)
    with Mapping.open(where) as m:
        classes = re.compile(rb"^class (\w+)", re.MULTILINE)
        assert len(classes.findall(library)) > 500
        assert classes.findall(m) == classes.findall(library)
        found, start = [], 0
        while (start := m.find(b"def __", start)) >= 0:
            found.append(start)
            start += 1
        assert found == [match.start() for match in re.finditer(b"def __", library)]
        assert m.rfind(b"import ", 0) == library.rfind(b"import ")
        assert m.find(b"\0not in any library", 0) == -1
        assert list(iter(m.readline, b"")) == library.splitlines(keepends=True)
        assert hashlib.sha256(m).digest() == hashlib.sha256(library).digest()
        m.seek(0)
        copy = io.BytesIO()
        shutil.copyfileobj(m, copy)
        assert copy.getvalue() == library


RECORD = struct.Struct("<QQI")


def test_a_binary_index_is_read_at_random(tmp_path: Path) -> None:
    """Sorted records that say where in the data, in the same file, a key's value stands."""
    rng = random.Random(5)
    values = {rng.getrandbits(64): rng.randbytes(rng.randrange(300)) for _ in range(5000)}
    data, records = bytearray(), bytearray()
    for key in sorted(values):
        records += RECORD.pack(key, len(data), len(values[key]))
        data += values[key]
    where = tmp_path / "index"
    where.write_bytes(struct.pack("<I", len(values)) + records + data)
    with Mapping.open(where) as m:
        (count,) = struct.unpack_from("<I", m)
        start = 4 + count * RECORD.size

        class Keys:
            def __len__(self) -> int:
                return count

            def __getitem__(self, index: int) -> int:
                return int(RECORD.unpack_from(m, 4 + index * RECORD.size)[0])

        def value(key: int) -> bytes | None:
            index = bisect.bisect_left(Keys(), key)
            if index == count:
                return None
            found, offset, length = RECORD.unpack_from(m, 4 + index * RECORD.size)
            return m[start + offset : start + offset + length] if found == key else None

        for key in rng.sample(sorted(values), 1000):
            assert value(key) == values[key]
            assert value(key + 1) == values.get(key + 1)
        with pytest.raises(struct.error):
            RECORD.unpack_from(m, len(m) - 5)
    with Mapping.open(where, "rw") as m:
        RECORD.pack_into(m, 4, 1, 2, 3)
        assert RECORD.unpack_from(m, 4) == (1, 2, 3)


@pytest.mark.parametrize("start", [0, 4097])
@isolated()
def test_a_log_is_followed_while_it_is_written(start: int, tmp_path: Path) -> None:
    where = tmp_path / "log"
    where.write_bytes(b"#" * start + b"line 0\n")

    def append() -> None:
        with where.open("ab", buffering=0) as log:
            for number in range(1, 3000):
                log.write(b"line %d\n" % number)
            log.write(b"end\n")

    with Mapping.open(where, offset=start, max_size=1 << 24) as m:
        first = memoryview(m)
        assert first == b"line 0\n"
        writer = Forked(append)
        lines: list[bytes] = []
        while not lines or lines[-1] != b"end\n":
            m.refresh()
            while m.find(b"\n") >= 0:
                lines.append(m.readline())
        assert lines == [b"line %d\n" % number for number in range(3000)] + [b"end\n"]
        assert not m.refresh()
        assert first == b"line 0\n"
        assert start + len(m) == where.stat().st_size == m.size()
        first.release()
        writer.result()


@isolated()
def test_a_counter_in_a_file_is_seen_by_another_process(tmp_path: Path) -> None:
    where = tmp_path / "counters"
    where.write_bytes(bytes(100))
    ours, theirs = Gate(), Gate()

    def count() -> list[int]:
        with Mapping.open(where, "rw") as m:
            seen = []
            for _ in range(20):
                ours.wait()
                seen.append(m[13])
                m[13] += 1
                theirs.open()
            return seen

    child = Forked(count)
    with Mapping.open(where, "rw", offset=10, length=10) as m:
        for turn in range(20):
            m[3] += 1
            ours.open()
            theirs.wait()
            assert m[3] == 2 * turn + 2
    assert child.result() == list(range(1, 41, 2))
    assert where.read_bytes() == bytes(13) + b"\x28" + bytes(86)
    ours.close()
    theirs.close()


def test_arrays_over_a_file(tmp_path: Path) -> None:
    where = tmp_path / "matrix"
    where.write_bytes(b"header: " + numpy.arange(600, dtype="<f8").tobytes())
    with Mapping.open(where, "rw", offset=8) as m:
        matrix = numpy.frombuffer(m, "<f8").reshape(20, 30)
        assert matrix[7, 3] == 213
        matrix[:, 0] = -1
        matrix[3] *= 2
        with pytest.raises(BufferError):
            m.close()
        del matrix
    assert (numpy.fromfile(where, "<f8", offset=8).reshape(20, 30)[:, 0] == -1).sum() == 19
    with Mapping.open(where) as m:
        numbers = numpy.frombuffer(m, "<f8", offset=8)
        with pytest.raises(ValueError):
            numbers[0] = 1
        assert numbers[599] == 599
        del numbers


@pytest.mark.parametrize("of_view", [False, True], ids=["object", "view"])
@isolated()
def test_an_array_outlives_what_it_was_made_over(of_view: bool, tmp_path: Path) -> None:
    """`np.ndarray(buffer=)` keeps the object, but need not hold a view."""
    where = tmp_path / "numbers"
    where.write_bytes(bytes(range(200)))
    for close in (lambda m: None, lambda m: m.close("detach"), lambda m: m.close()):
        m = Mapping.open(where, "rw")
        array = numpy.ndarray(200, numpy.uint8, memoryview(m) if of_view else m)
        part = array[50:60]
        try:
            close(m)
        except BufferError:
            assert not m.closed
        del m, array
        gc.collect()
        noise = [Mapping.anonymous(200, shared=False) for _ in range(20)]
        for other in noise:
            other[:] = b"\xff" * 200
        assert part.tolist() in (list(range(50, 60)), [0] * 10)
        part[0] = 50
        assert all(other[:] == b"\xff" * 200 for other in noise)
        for other in noise:
            other.close()
    assert where.read_bytes() == bytes(range(200))


def test_views_of_other_types(tmp_path: Path) -> None:
    class Header(ctypes.LittleEndianStructure):
        _fields_ = (("magic", ctypes.c_uint32), ("version", ctypes.c_uint16))

    where = tmp_path / "header"
    where.write_bytes(struct.pack("<3xIH7x", 0xCAFE, 7))
    with Mapping.open(where, "rw") as m:
        with memoryview(m) as view, view[:12].cast("I") as words, view.cast("B", (2, 8)) as grid:
            assert words.shape == (3,) and grid.shape == (2, 8)
            words[2] = 0x01020304
            assert grid[1, 0] == view[8] == m[8]
        header = Header.from_buffer(m, 3)
        assert (header.magic, header.version) == (0xCAFE, 0x0407)
        header.version = 8
        assert m[7:9] == b"\x08\x00"
        del header
    assert where.read_bytes()[7:] == b"\x08\x00\x03\x02\x01" + bytes(4)


def test_json_and_pickles_and_tables(tmp_path: Path) -> None:
    things = {"key": list(range(100)), "text": "äöü"}
    where = tmp_path / "data"
    where.write_bytes(json.dumps(things).encode())
    with Mapping.open(where) as m:
        assert json.load(m) == json.loads(m[:]) == things
    where.write_bytes(pickle.dumps(things))
    with Mapping.open(where) as m:
        assert pickle.load(m) == pickle.loads(m) == things
        with memoryview(m) as view:
            assert pickle.loads(view) == things
    where.write_bytes(b"name,size\r\nfirst,1\r\nsecond,2\r\n")
    with Mapping.open(where) as m:
        rows = csv.DictReader(line.decode() for line in iter(m.readline, b""))
        assert [row["size"] for row in rows] == ["1", "2"]


def test_orjson_reads_a_view(tmp_path: Path) -> None:
    orjson = pytest.importorskip("orjson", reason="orjson is not installed")
    where = tmp_path / "data"
    where.write_bytes(b'{"key": [1, 2, 3]}')
    with Mapping.open(where) as m, memoryview(m) as view:
        assert orjson.loads(view) == {"key": [1, 2, 3]}


def test_archives(tmp_path: Path, library: bytes) -> None:
    where = tmp_path / "archive"
    with zipfile.ZipFile(where, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("library", library)
    with Mapping.open(where) as m, zipfile.ZipFile(m) as archive:
        assert archive.read("library") == library
    with Reader(where) as r, zipfile.ZipFile(io.BufferedReader(r.raw())) as archive:
        assert archive.read("library") == library
    with tarfile.open(where, "w") as archive:
        archive.add(os.__file__, "os.py")
    for source in (Mapping.open(where), Reader(where)):
        with source:
            file: Any = source if isinstance(source, Mapping) else source.raw()
            with tarfile.open(fileobj=file) as archive:
                member = archive.extractfile("os.py")
                assert member is not None and member.read() == Path(os.__file__).read_bytes()
    where.write_bytes(gzip.compress(library))
    with Mapping.open(where) as m, gzip.GzipFile(fileobj=m) as unzipped:
        assert unzipped.read() == library
    with Reader(where) as r, gzip.open(io.BufferedReader(r.raw())) as unzipped:
        assert unzipped.read() == library


@isolated()
def test_it_is_sent_and_written_without_a_copy(tmp_path: Path) -> None:
    where = tmp_path / "data"
    content = os.urandom(300_000)
    where.write_bytes(content)
    with Mapping.open(where) as m:
        here, there = socket.socketpair()

        def receive() -> bytes:
            here.close()
            with there.makefile("rb") as stream:
                return stream.read()

        child = Forked(receive)
        there.close()
        here.sendall(m)
        here.close()
        assert child.result() == content
        with (tmp_path / "copy").open("wb") as file:
            assert file.write(m) == len(content)
            file.writelines([m])
        assert (tmp_path / "copy").read_bytes() == content * 2
    with Mapping.open(where, "rw") as m, (tmp_path / "copy").open("rb") as file:
        m[:] = bytes(len(m))
        assert file.readinto(m) == len(content)
    assert where.read_bytes() == content


def test_a_file_beyond_four_gib(tmp_path: Path) -> None:
    where = tmp_path / "sparse"
    with where.open("wb") as file:
        file.truncate((5 << 30) + 3)
    with Mapping.open(where, "rw") as m:
        assert len(m) == (5 << 30) + 3
        m[(1 << 32) + 5] = 1
        m[-3:] = b"end"
        assert m.find(b"end", len(m) - 5) == len(m) - 3
        m.seek(-3, 2)
        assert (m.tell(), m.read()) == (5 << 30, b"end")
    with Mapping.open(where, offset=(1 << 32) + 1, length=10) as m:
        assert m[:] == b"\0\0\0\0\1\0\0\0\0\0"
    with Reader(where) as r:
        assert (r.at((1 << 32) + 5), r.read_at(9, 5 << 30)) == (1, b"end")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX) as end:
        for source in (tmp_path, reader, end.fileno()):
            for door in (Mapping.open, Reader):
                with pytest.raises((OSError, ValueError)):
                    door(source)
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError) as error:
        Mapping.open(reader)
    assert error.value.errno == errno.EBADF
    with pytest.raises((TypeError, ValueError, io.UnsupportedOperation)):
        Mapping.open(io.BytesIO(b"no descriptor"))
    for wrong in ("", "nul\0inside"):
        with pytest.raises((ValueError, OSError)):
            Mapping.open(wrong)


@isolated()
def test_processes_share_a_file_by_whatever_door(tmp_path: Path) -> None:
    where = tmp_path / "shared"
    where.write_bytes(bytes(2 * PAGE))
    with Mapping.open(where, "rw") as m, Reader(where) as r, where.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0) as plain:
            in_child(m.__setitem__, PAGE, 1)
            assert m[PAGE] == plain[PAGE] == r.at(PAGE) == where.read_bytes()[PAGE] == 1
            plain[5] = 2
            os.pwrite(file.fileno(), b"\3", 6)
            assert m[5:7] == r.read_at(2, 5) == in_child(lambda: m[5:7]) == b"\2\3"
        m.advise(Advice.WILLNEED)
        m.flush()


# --- the reader ---------------------------------------------------------------------------------


def test_a_reader_as_a_raw_file(tmp_path: Path, library: bytes) -> None:
    where = tmp_path / "text"
    where.write_bytes(b"#" * 10 + library)
    with Reader(where, offset=10) as r:
        raw = r.raw()
        assert isinstance(raw, io.RawIOBase)
        assert raw.readable() and raw.seekable()
        assert not raw.writable() and not raw.isatty()
        with pytest.raises(io.UnsupportedOperation):
            raw.fileno()
        with pytest.raises((io.UnsupportedOperation, NotImplementedError)):
            raw.write(b"x")
        assert (raw.read(5), raw.tell(), raw.seek(-3, 1), raw.tell()) == (library[:5], 5, 2, 2)
        assert raw.seek(-4, 2) == len(library) - 4
        assert (raw.read(100), raw.read(1), raw.read()) == (library[-4:], b"", b"")
        assert raw.seek(len(library) + 50) == len(library) + 50
        assert (raw.read(1), raw.readall()) == (b"", b"")
        with pytest.raises((ValueError, OSError)):
            raw.seek(-1)
        buffer = bytearray(10)
        raw.seek(7)
        assert (raw.readinto(buffer), buffer) == (10, library[7:17])
        raw.seek(0)
        assert raw.readall() == library
        other = r.raw()
        assert other.tell() == 0, "each has a position of its own"
        text = io.TextIOWrapper(io.BufferedReader(other), "latin-1", newline="")
        assert "".join(text) == library.decode("latin-1")
        text.close()
        assert r.at(0) == library[0], "the reader stays open"
        raw.close()
        last = r.raw()
    for use in (lambda: last.read(1), lambda: last.readinto(bytearray(1))):
        with pytest.raises(ValueError):
            use()


def test_a_reader_at_the_end_of_a_file(tmp_path: Path) -> None:
    where = tmp_path / "file"
    content = bytes(range(100))
    where.write_bytes(content)
    with Reader(where) as r, where.open("ab") as file:
        for offset in range(0, 120, 7):
            for count in (0, 1, 10, 200):
                assert r.read_at(count, offset) == content[offset : offset + count]
                buffer = bytearray(b"\xff" * count)
                got = r.readinto_at(buffer, offset)
                assert buffer == content[offset : offset + count] + b"\xff" * (count - got)
        file.write(b"more")
        file.flush()
        assert (len(r), r.read_at(10, 95), r.read_at(1, 100)) == (100, content[95:], b"")
        with pytest.raises(IndexError):
            r.at(100)
        for args in (("1", 0), (1, "0"), (1.0, 0), (None, 0)):
            with pytest.raises(TypeError):
                r.read_at(*args)
        for huge in (1 << 62, (1 << 63) - 1):
            assert r.read_at(huge, 98) == content[98:]
            assert r.read_at(1, huge) == b""
    with Reader(where, length=0) as r:
        assert (len(r), r.read_at(1, 0), r.raw().read()) == (0, b"", b"")
    for offset, length in ((105, None), (0, 105), (-1, None), (0, -2)):
        with pytest.raises(ValueError):
            Reader(where, offset=offset, length=length)
    with pytest.raises(FileNotFoundError, match="no-such"):
        Reader(tmp_path / "no-such")


@isolated()
def test_readers_are_parallel_until_close(tmp_path: Path) -> None:
    rng = random.Random(3)
    content = rng.randbytes(8 << 20)
    where = tmp_path / "file"
    where.write_bytes(content)
    r = Reader(where)

    def read(seed: int) -> int:
        """Until it is closed: every read is whole and right."""
        rng, done = random.Random(seed), 0
        with pytest.raises(ClosedError):
            while True:
                offset, count = rng.randrange(len(content)), rng.choice((1, 100, 70_000, 3 << 20))
                assert r.read_at(count, offset) == content[offset : offset + count]
                assert r.at(offset) == content[offset]
                done += 1
                started.open()
        return done

    started = Gate()
    outcomes = [in_thread(lambda seed=seed: read(seed)) for seed in range(8)]
    for _ in range(64):
        started.wait()
    r.close()
    with pytest.raises(ClosedError):
        r.at(0)
    assert sum(outcome() for outcome in outcomes) >= 64
    started.close()
