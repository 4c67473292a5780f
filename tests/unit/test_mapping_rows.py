"""What a Python mapping layer must do: one test for each row of the table of capabilities."""

from __future__ import annotations

import array
import base64
import contextlib
import ctypes
import errno
import fcntl
import gc
import hashlib
import importlib
import io
import itertools
import mmap
import os
import pickle
import platform
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import tarfile
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import pytest
from helpers import Forked, Gate, file_of, in_child, in_thread, run_python
from isolation import isolated

import shmipc
from shmipc import (
    ClosedError,
    LayoutError,
    Mapping,
    MappingFault,
    MappingLimitError,
    Reader,
    Segment,
    ShmipcError,
)
from shmipc.mapping import (
    GRANULARITY,
    PAGE_SIZE,
    Advice,
    Flush,
    Residency,
    Seal,
    active_bytes,
    active_count,
)

numpy = pytest.importorskip("numpy")

PAGE = mmap.PAGESIZE
NOBODY = 65534
DOORS: dict[str, Callable[[Path], Any]] = {
    "memfd": lambda where: Mapping(5 * PAGE),
    "shared": lambda where: Mapping.anonymous(5 * PAGE),
    "private": lambda where: Mapping.anonymous(5 * PAGE, shared=False),
    "read": lambda where: Mapping.open(filled(where), "r"),
    "read-write": lambda where: Mapping.open(filled(where), "rw"),
    "copy": lambda where: Mapping.open(filled(where), "copy"),
    "unaligned": lambda where: Mapping.open(filled(where), "rw", offset=4097),
}
RETURN_42 = {
    "x86_64": bytes.fromhex("b82a000000c3"),
    "aarch64": bytes.fromhex("40058052c0035fd6"),
}


def filled(path: Path, size: int = 5 * PAGE) -> Path:
    """A file of `size` random bytes, in `path` or, where that is a directory, a new one in it."""
    if path.is_dir():
        path = path / f"file-{len(list(path.iterdir()))}"
    path.write_bytes(os.urandom(size))
    return path


def maps_line(address: int) -> str:
    """What /proc/self/maps says about an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= address < end:
            return line
    raise AssertionError(f"{address:#x} is not mapped")


def permissions(m: Any) -> str:
    return maps_line(m.address).split()[1]


def smaps(address: int) -> dict[str, str]:
    """The facts of /proc/self/smaps about an address, by name."""
    found = Path("/proc/self/smaps").read_text().partition(maps_line(address))[2]
    facts = itertools.takewhile(lambda line: ":" in line.split()[0], found.splitlines()[1:])
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in facts}


def address_of(thing: Any) -> int:
    """Where a writable buffer lies."""
    return ctypes.addressof(ctypes.c_char.from_buffer(thing))


def free_addresses(pages: int) -> int:
    """Where nothing was mapped a moment ago."""
    with mmap.mmap(-1, (pages + 2) * PAGE) as room:
        return address_of(room) + PAGE


@contextlib.contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair(socket.AF_UNIX)
    try:
        yield pair
    finally:
        for end in pair:
            end.close()


def as_nobody(function: Callable[[], Any]) -> Any:
    """Calls in a child without root's rights."""

    def call() -> Any:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        return function()

    return in_child(call)


# --- rows 1 to 10 -------------------------------------------------------------------------------


def test_map_a_whole_file(tmp_path: Path) -> None:
    """Row 1: by path, descriptor or file object; a buffered writer is flushed first."""
    where = filled(tmp_path)
    content = where.read_bytes()
    for path in (where, str(where), os.fsencode(where)):
        with Mapping.open(path) as m:
            assert bytes(m) == content
    fd = os.open(where, os.O_RDONLY)
    m = Mapping.open(fd)
    os.close(fd)
    with m:
        assert m[:] == content
    file = where.open("r+b")
    file.write(b"written")
    m = Mapping.open(file, "rw")
    file.close()
    with m:
        assert m[:] == b"written" + content[7:]
        m[:2] = b"WR"
    assert where.read_bytes()[:7] == b"WRitten"
    file = where.open("ab")
    file.write(b"appended")
    with pytest.raises(PermissionError):
        Mapping.open(file)  # its descriptor may not be read
    file.close()
    with pytest.raises(FileNotFoundError, match="no-such"):
        Mapping.open(tmp_path / "no-such")
    with pytest.raises(OSError) as error:
        Mapping.open(fd)
    assert error.value.errno == errno.EBADF
    for wrong in (1.5, None, [where]):
        with pytest.raises(TypeError):
            Mapping.open(wrong)


def test_map_a_region(tmp_path: Path) -> None:
    """Row 2: length = size - offset; past the end is an error, unless it is to be extended."""
    where = filled(tmp_path, 10_000)
    content = where.read_bytes()
    for offset in (0, PAGE, 10_000):
        for length in (None, -1, 10_000 - offset):
            with Mapping.open(where, offset=offset, length=length) as m:
                assert (len(m), m.offset) == (10_000 - offset, offset)
                assert m[:] == content[offset:]
    with Mapping.open(where, offset=PAGE, length=100) as m:
        assert m[:] == content[PAGE : PAGE + 100]
    for offset, length in ((0, 10_001), (PAGE, 10_000), (10_000, 1), (10_001, None), (20_000, 0)):
        with pytest.raises(ValueError):
            Mapping.open(where, "rw", offset=offset, length=length)
    for offset, length in ((-1, None), (0, -2), (1 << 70, None), (0, 1 << 70)):
        with pytest.raises((ValueError, OverflowError)):
            Mapping.open(where, offset=offset, length=length)
    for wrong in ("8", 1.5, b"8"):
        with pytest.raises(TypeError, match=type(wrong).__name__):
            Mapping.open(where, length=wrong)
        with pytest.raises(TypeError, match=type(wrong).__name__):
            Mapping.open(where, offset=wrong)
    assert where.read_bytes() == content
    with pytest.raises(ValueError):
        Mapping.open(where, "r", length=20_000, extend=True)
    with Mapping.open(where, "rw", offset=PAGE, length=1 << 20, extend=True) as m:
        assert (len(m), where.stat().st_size) == (1 << 20, PAGE + (1 << 20))
        assert where.stat().st_blocks * 512 >= 1 << 20
        assert m[: 10_000 - PAGE] == content[PAGE:]
        assert not any(m[10_000 - PAGE :])
        m[-1] = 1
    with Mapping.open(where, "rw", length=100, extend=True) as m:
        assert len(m) == 100
    assert where.stat().st_size == PAGE + (1 << 20), "what is long enough stays as it is"


@pytest.mark.parametrize("offset", [1, 4095, 4097])
def test_map_at_any_offset(offset: int, tmp_path: Path) -> None:
    """Row 3: any offset; flush, advise and lock work on it too."""
    where = filled(tmp_path)
    content = where.read_bytes()
    with Mapping.open(where, "rw", offset=offset, length=2 * PAGE) as m:
        expected = content[offset : offset + 2 * PAGE]
        assert (m.offset, len(m), m[:], bytes(m)) == (offset, 2 * PAGE, expected, expected)
        assert m.address % PAGE == offset % PAGE
        assert ctypes.string_at(m.address, 2 * PAGE) == expected
        m[0], m[-1] = 1, 2
        memoryview(m)[1] = 3
        for args in ((), (0, len(m)), (1,), (1, 10), (len(m) - 1, 1), (len(m), 0)):
            m.flush(*args)
            m.advise(Advice.WILLNEED, *args)
            m.lock(*args)
            m.unlock(*args)
            m.prefault(*args)
        pages = m.resident().pages
        assert pages == [True] * (3 if offset % PAGE else 2)
        assert m.find(expected[100:120]) == 100
        m.seek(50)
        assert m.read(10) == expected[50:60]
        for args in ((0, len(m) + 1), (len(m) + 1,), (-1,), (0, -2)):
            for method in (m.flush, m.lock, m.resident, m.prefault):
                with pytest.raises(ValueError):
                    method(*args)
    changed = bytearray(content)
    changed[offset], changed[offset + 1], changed[offset + 2 * PAGE - 1] = 1, 3, 2
    assert where.read_bytes() == changed
    with Mapping.open(where, "copy", offset=offset) as m:
        m[:] = bytes(len(m))
    assert where.read_bytes() == changed


def test_page_size_and_allocation_granularity() -> None:
    """Row 4: both are exposed, and are the system's."""
    assert os.sysconf("SC_PAGE_SIZE") == PAGE_SIZE == mmap.PAGESIZE
    assert GRANULARITY == mmap.ALLOCATIONGRANULARITY
    with Mapping(1) as m:
        assert m.page_size == PAGE_SIZE


@isolated()
def test_protection(tmp_path: Path) -> None:
    """Row 5: r, rw, copy, rx, rwx, none; rw on what may not be written is PermissionError."""
    where = filled(tmp_path)
    content = where.read_bytes()
    expected = {
        "r": "r--s",
        "rw": "rw-s",
        "copy": "rw-p",
        "rx": "r-xs",
        "rwx": "rwxs",
        "none": "---s",
    }
    for access, shown in expected.items():
        with Mapping.open(where, access) as m:
            assert (m.access, permissions(m)) == (access, shown)
            assert m.readonly == (access in ("r", "rx", "none"))
    with Mapping.open(where) as m:
        assert m.access == "r"
    for wrong in ("w", "", "wr", "R", "copyx"):
        with pytest.raises(ValueError, match="access"):
            Mapping.open(where, wrong)
    with pytest.raises((TypeError, ValueError)):
        Mapping.open(where, 3)  # type: ignore[arg-type]

    fd = os.open(where, os.O_RDONLY)
    for source in (fd, where.open("rb")):
        for access in ("rw", "rwx"):
            with pytest.raises(PermissionError):
                Mapping.open(source, access)
        with Mapping.open(source, "copy") as m:
            m[:5] = b"mine!"
            memoryview(m)[-1] = content[-1] ^ 1
            assert (m[:5], m[-1]) == (b"mine!", content[-1] ^ 1)
        getattr(source, "close", lambda: os.close(fd))()
    assert where.read_bytes() == content, "copy leaves the file untouched"

    with tempfile.TemporaryDirectory() as folder:  # that others may enter
        Path(folder).chmod(0o755)
        guarded = Path(folder, "file")
        guarded.write_bytes(content)
        guarded.chmod(0o444)

        def use() -> bytes:
            with pytest.raises(PermissionError, match="file"):
                Mapping.open(guarded, "rw")
            with Mapping.open(guarded, "copy") as m:
                m[0] ^= 1
                return bytes(m[1:])

        assert as_nobody(use) == content[1:]
        assert guarded.read_bytes() == content

    if platform.machine() in RETURN_42:
        where.write_bytes(RETURN_42[platform.machine()])
        for access in ("rx", "rwx"):
            with Mapping.open(where, access) as m:
                assert ctypes.CFUNCTYPE(ctypes.c_int)(m.address)() == 42


@isolated()
def test_a_wrong_protection_is_an_error_never_a_signal(tmp_path: Path) -> None:
    """Row 6: nothing that a protection forbids reaches the memory; views are read-only."""
    where = filled(tmp_path)
    content = where.read_bytes()
    with Mapping.open(where, "none") as m:
        reads: list[Callable[[], Any]] = [
            lambda: m[0],
            lambda: m[:],
            lambda: m[::2],
            lambda: m.read(),
            lambda: m.read_byte(),
            lambda: m.readline(),
            lambda: m.find(b"x"),
            lambda: m.rfind(b"x"),
            lambda: b"x" in m,
            lambda: next(iter(m)),
        ]
        for read in reads:
            with pytest.raises(PermissionError):
                read()
        for export in (memoryview, bytes, numpy.asarray, hashlib.sha256):
            with pytest.raises((BufferError, PermissionError)):
                export(m)
        assert len(m) == len(content)
    for access in ("r", "rx", "none"):
        with Mapping.open(where, access) as m:
            writes: list[Callable[[], Any]] = [
                lambda: m.__setitem__(0, 1),
                lambda: m.__setitem__(slice(0, 2), b"ab"),
                lambda: m.__setitem__(slice(0, 4, 2), b"ab"),
                lambda: m.write(b"ab"),
                lambda: m.write_byte(1),
                lambda: m.move(0, 5, 2),
                lambda: m.resize(PAGE),
            ]
            for write in writes:
                with pytest.raises((TypeError, PermissionError) if access == "none" else TypeError):
                    write()
            if access == "none":
                continue
            assert (m[0], m[:], m.find(content[9:30])) == (content[0], content, 9)
            view = memoryview(m)
            assert view.readonly
            assert not numpy.frombuffer(m, numpy.uint8).flags.writeable
            with pytest.raises(TypeError):
                view[0] = 1
            with pytest.raises(TypeError):
                ctypes.c_char.from_buffer(m)
            with pytest.raises((TypeError, BufferError)):
                io.BytesIO(b"new").readinto(m)
            view.release()
    with Mapping.open(where, "rw") as m:
        m.protect("none", 0, PAGE)
        m.protect("r", PAGE, PAGE)
        with pytest.raises(PermissionError):
            m[0]
        with pytest.raises(PermissionError):
            m[:]
        for index in (0, PAGE):
            with pytest.raises(PermissionError):
                m[index] = 1
        with pytest.raises(BufferError):
            memoryview(m)
        assert m[PAGE : 2 * PAGE] == content[PAGE : 2 * PAGE]
        m[2 * PAGE] = content[2 * PAGE]
        m.protect("rw")
        assert bytes(memoryview(m)) == content
    assert where.read_bytes() == content


@isolated()
def test_anonymous_memory() -> None:
    """Row 7: shared or private, explicit length; shared is seen across fork."""
    for wrong in (None, -1, "8", 1.5, b"8"):
        for door in (Mapping, Mapping.anonymous):
            with pytest.raises((TypeError, ValueError)) as error:
                door(wrong)
            assert "length" in str(error.value)
            found = str(wrong) if isinstance(wrong, int) else type(wrong).__name__
            assert found in str(error.value)
    for door in (Mapping, Mapping.anonymous):
        with pytest.raises((TypeError, ValueError), match="length"):
            door()
        with pytest.raises((ValueError, OverflowError)):
            door(1 << 70)

    def set_first(m: Any) -> int:
        m[0] += 1
        return int(m[0])

    with Mapping(5000) as named, Mapping.anonymous(5000) as shared:
        for m in (named, shared):
            assert (len(m), m.access, m.readonly) == (5000, "rw", False)
            assert m[:] == bytes(5000)
            m[0] = 41
            assert in_child(set_first, m) == 42
            assert m[0] == 42
            in_child(memoryview(m).__setitem__, 4999, 7)
            assert m[4999] == 7
        assert shared.name is None
    with Mapping.anonymous(5000, shared=False) as private:
        private[0] = 41
        assert in_child(set_first, private) == 42
        assert private[0] == 41


@pytest.mark.parametrize("access", ["r", "rw", "copy"])
def test_an_empty_mapping(access: str, tmp_path: Path) -> None:
    """Row 8: a file or region of no bytes is a valid mapping; every method is a no-op."""
    empty, full = tmp_path / "empty", filled(tmp_path)
    empty.touch()
    for m in (
        Mapping.open(empty, access),
        Mapping.open(empty, access, length=0),
        Mapping.open(full, access, offset=5 * PAGE),
        Mapping.open(full, access, offset=100, length=0),
    ):
        with m:
            assert (len(m), m[:], m[5:9], m[::-1], bytes(m), list(m)) == (0, b"", b"", b"", b"", [])
            assert (m.read(), m.read(5), m.readline(), m.tell()) == (b"", b"", b"", 0)
            assert (m.find(b""), m.rfind(b""), m.find(b"x"), m.rfind(b"x")) == (0, 0, -1, -1)
            assert b"x" not in m and 0 not in m
            m.seek(0)
            m.seek(0, 2)
            for method in (m.flush, m.lock, m.unlock, m.prefault):
                assert method() is None
                assert method(0, 0) is None
            for advice in (Advice.WILLNEED, Advice.DONTNEED, Advice.RANDOM):
                m.advise(advice)
                m.madvise(advice)
            assert m.resident() == Residency([], 0)
            assert memoryview(m).nbytes == 0
            assert not m.refresh()
            for index in (0, -1):
                with pytest.raises(IndexError):
                    m[index]
            with pytest.raises(ValueError):
                m.read_byte()
            with pytest.raises(ValueError):
                m.seek(1)
            if access == "r":
                continue
            m[:] = b""
            m.move(0, 0, 0)
            assert m.write(b"") == 0
            with pytest.raises(ValueError):
                m.write(b"x")
            m.protect("r")
        assert m.closed
    assert (empty.stat().st_size, full.stat().st_size) == (0, 5 * PAGE)


@isolated()
def test_an_address_is_taken_there_or_not_at_all(tmp_path: Path) -> None:
    """Row 9: at the address or FileExistsError, never over foreign memory."""
    where = filled(tmp_path)
    address = free_addresses(5)
    with Mapping.anonymous(5 * PAGE, address=address) as m:
        assert m.address == address
        m[:] = b"m" * len(m)
        for start in (address, address + PAGE, address - PAGE):
            for door in (
                lambda start=start: Mapping.anonymous(3 * PAGE, address=start),
                lambda start=start: Mapping.open(where, address=start),
            ):
                with pytest.raises(FileExistsError) as error:
                    door()
                assert error.value.errno == errno.EEXIST
        assert m[:] == b"m" * len(m)
    with Mapping.open(where, address=address) as m:
        assert m.address == address
        assert ctypes.string_at(address, len(m)) == where.read_bytes()
    foreign = mmap.mmap(-1, PAGE)
    foreign[:] = b"f" * PAGE
    with pytest.raises(FileExistsError):
        Mapping.anonymous(PAGE, address=address_of(foreign))
    assert foreign[:] == b"f" * PAGE
    foreign.close()
    for wrong in (address + 1, -PAGE):
        with pytest.raises(ValueError):
            Mapping.anonymous(PAGE, address=wrong)
    with pytest.raises(TypeError):
        Mapping.anonymous(PAGE, address="there")  # type: ignore[arg-type]


@isolated()
def test_flush(tmp_path: Path) -> None:
    """Row 10: sync, async, invalidate; any byte range; twice is fine; copies have nothing to do."""
    where = filled(tmp_path)

    def dirty(address: int) -> int:
        facts = smaps(address)
        return int(facts["Shared_Dirty"].split()[0]) + int(facts["Private_Dirty"].split()[0])

    with where.open("r+b") as file, mmap.mmap(file.fileno(), 0) as plain:
        plain[0] ^= 1
        assert dirty(address_of(plain))
        plain.flush()
        cleans = not dirty(address_of(plain))  # not where the file is memory anyway
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(16 << 20)
    with Mapping.open(large, "rw") as m:
        m[0] = m[8 << 20] = 1
        before = dirty(m.address)
        m.flush((8 << 20) + 1, 10)
        middle = dirty(m.address)
        assert 0 < middle < before or not cleans
        m.flush(1, PAGE)
        assert not dirty(m.address) or not cleans
        m[5 * PAGE] = 1
        m.flush()
        assert not dirty(m.address) or not cleans
    with Mapping.open(where, "rw") as m:
        for how in (Flush.SYNC, Flush.ASYNC, Flush.INVALIDATE):
            m[1] ^= 1
            for args in ((), (), (0, PAGE), (1, 1), (PAGE + 1,), (len(m) - 1, 1), (len(m), 0)):
                m.flush(*args, how=how)
        for args in ((len(m) + 1,), (0, len(m) + 1), (-1, 1), (1, len(m))):
            with pytest.raises(ValueError):
                m.flush(*args)
        with pytest.raises((TypeError, ValueError)):
            m.flush(how="now")
        content = m[:]
    assert where.read_bytes() == content
    for m in (
        Mapping.open(where, "r"),
        Mapping.open(where, "copy"),
        Mapping.open(where, "rx"),
        Mapping.anonymous(PAGE),
        Mapping.anonymous(PAGE, shared=False),
        Mapping(PAGE),
    ):
        with m:
            for how in (Flush.SYNC, Flush.ASYNC, Flush.INVALIDATE):
                assert m.flush(how=how) is None
                assert m.flush(1, 2, how) is None
    with Mapping.open(where, "copy") as m:
        m[:] = bytes(len(m))
        m.flush()
    assert where.read_bytes() == content


# --- rows 11 to 20 ------------------------------------------------------------------------------


def test_close_says_whether_it_flushes(tmp_path: Path) -> None:
    """Row 11: it is documented; an error from close leaves the object as it was."""
    assert "flush" in str(Mapping.close.__doc__)
    where = filled(tmp_path)
    m = Mapping.open(where, "rw")
    view = memoryview(m)
    for _ in range(2):
        with pytest.raises(BufferError):
            m.close()
        assert not m.closed
        m[0] ^= 1
        view[1] ^= 1
        assert m[:] == view == where.read_bytes()
        assert m.views == 1
        m.flush()
    with pytest.raises(ValueError):
        m.close("otherwise")  # type: ignore[arg-type]
    assert not m.closed
    view.release()
    m[2] ^= 1
    content = m[:]
    m.close()
    assert m.closed
    assert where.read_bytes() == content, "the system keeps what was written"


@isolated()
def test_advise(tmp_path: Path) -> None:
    """Row 12: every MADV_* of the system; unknown ones are EINVAL; ranges are rounded."""
    for constant in (name for name in dir(mmap) if name.startswith("MADV_")):
        assert Advice[constant.removeprefix("MADV_")] == getattr(mmap, constant)
    for name in ("COLD", "PAGEOUT", "POPULATE_READ", "POPULATE_WRITE", "COLLAPSE", "WIPEONFORK"):
        assert name in Advice.__members__
    plain = ("NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "COLD", "PAGEOUT", "POPULATE_READ")
    plain += ("DONTFORK", "DOFORK", "DONTDUMP", "DODUMP")
    for door in DOORS.values():
        with door(tmp_path) as m:
            before = m[:]
            for advice in map(Advice.__getitem__, plain):
                m.advise(advice)
                m.madvise(advice)
                m.madvise(advice, PAGE, PAGE)
                m.advise(advice, 1, PAGE)
                m.advise(advice, len(m), 0)
            assert m[:] == before
            with pytest.raises(OSError) as error:
                m.advise(9999)
            assert error.value.errno == errno.EINVAL
            with pytest.raises(TypeError):
                m.advise("WILLNEED")
            for args in ((0, len(m) + 1), (len(m) + 1,), (-1,)):
                with pytest.raises(ValueError):
                    m.advise(Advice.NORMAL, *args)

    with Mapping.anonymous(4 * PAGE, shared=False) as m:
        for advice in ("HUGEPAGE", "NOHUGEPAGE", "MERGEABLE", "UNMERGEABLE"):
            with contextlib.suppress(OSError):  # EINVAL where the kernel was built without
                m.advise(Advice[advice])
        m[:] = b"x" * len(m)
        m.advise(Advice.DONTNEED, 1, PAGE - 1)
        m.advise(Advice.DONTNEED, PAGE + 1, PAGE)
        assert m[:] == b"x" * len(m), "no page is whole in there"
        m.advise(Advice.DONTNEED, 1, 3 * PAGE)
        assert m[:] == b"x" * PAGE + bytes(2 * PAGE) + b"x" * PAGE
        m.advise(Advice.DONTNEED)
        assert not any(m[:])
        m.advise(Advice.DONTNEED)
        m.advise(Advice.POPULATE_WRITE, 1, 1)
        assert m.resident().pages == [True, False, False, False]
        m[:] = b"x" * len(m)
        m.advise(Advice.FREE, 1, 2)
        m.advise(Advice.WIPEONFORK)
        assert in_child(lambda: m[:]) == bytes(len(m))
        m.advise(Advice.KEEPONFORK)
        assert in_child(lambda: m[:]) == b"x" * len(m)
    with Mapping.anonymous(3 * PAGE) as m:
        m[:] = b"x" * len(m)
        m.advise(Advice.REMOVE, 1, 2 * PAGE)
        assert m[:] == b"x" * PAGE + bytes(PAGE) + b"x" * PAGE
    with Mapping.open(filled(tmp_path), "rw", offset=1, length=3 * PAGE) as m:
        where, content = Path(str(m.name)), m[:]
        m.advise(Advice.REMOVE, 0, PAGE)  # its first page holds a byte before, its second one after
        assert m[:] == content
        m.advise(Advice.REMOVE, 0, 2 * PAGE)
        assert m[:] == content[: PAGE - 1] + bytes(PAGE) + content[2 * PAGE - 1 :]
        assert where.read_bytes()[1 : 1 + 3 * PAGE] == m[:]


@isolated()
def test_protect(tmp_path: Path) -> None:
    """Row 13: protection changes; refused while views are out that it would make lie."""
    where = filled(tmp_path)
    with Mapping.open(where, "rw") as m:
        view = memoryview(m)
        for access in ("r", "none"):
            with pytest.raises(BufferError):
                m.protect(access)
            with pytest.raises(BufferError):
                m.protect(access, PAGE, PAGE)
        assert (m.access, permissions(m)) == ("rw", "rw-s")
        view[0] ^= 1
        m[0] ^= 1
        view.release()
        m.protect("r")
        assert (m.access, m.readonly, permissions(m)) == ("r", True, "r--s")
        with pytest.raises(TypeError):
            m[0] = 1
        view = memoryview(m)
        assert view.readonly
        with pytest.raises(BufferError):
            m.protect("none")
        assert view[:] == m[:]
        view.release()
        m.protect("none")
        with pytest.raises(PermissionError):
            m[0]
        m.protect("rw")
        m[0] ^= 1
        assert permissions(m) == "rw-s"
        with pytest.raises(ValueError):
            m.protect("some")  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            m.protect("r", 0, len(m) + 1)
    with Mapping.open(where, "rw") as m:
        m.protect("r", 0, PAGE)
        m.refresh()
        with pytest.raises(PermissionError):
            m[0] = 1
        with contextlib.suppress(BufferError, ValueError, PermissionError):
            m.resize(len(m) + PAGE)
        with pytest.raises(PermissionError):
            m[0] = 1
    with Mapping.open(where, "r") as m:
        with pytest.raises(PermissionError):
            m.protect("rw")
        assert m.access == "r"
        assert memoryview(m).readonly
    with Mapping.open(where, "copy") as m:
        m[0] = 1
        m.protect("r")
        assert m[0] == 1
        with pytest.raises(TypeError):
            m[0] = 2


@isolated()
def test_lock_and_unlock(tmp_path: Path) -> None:
    """Row 14: idempotent; the limit of locked memory is named."""

    def locked() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmLck")) * 1024

    before = locked()
    for door in DOORS.values():
        with door(tmp_path) as m:
            pages = (m.offset % PAGE + len(m) + PAGE - 1) // PAGE
            for _ in range(2):
                m.lock()
                assert locked() - before == pages * PAGE
            assert all(m.resident().pages)
            for _ in range(2):
                m.unlock()
                assert locked() == before
            m.lock(PAGE + 1, 1)
            assert locked() - before == PAGE
            m.unlock(PAGE, 2)
            m.lock()
        assert locked() == before, "unmapped is unlocked"

    def lock_too_much() -> str:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (PAGE, PAGE))
        with Mapping.anonymous(4 * PAGE) as m:
            m.lock(0, PAGE)
            with pytest.raises(OSError) as error:
                m.lock()
            m[0] = 1
            return str(error.value)

    assert "RLIMIT_MEMLOCK" in as_nobody(lock_too_much)


def test_residency(tmp_path: Path) -> None:
    """Row 15: per page and in bytes; a sparse file with its last byte written: [False, True]."""
    where = tmp_path / "sparse"
    with where.open("wb") as file:
        file.truncate(2 * PAGE)
        os.pwrite(file.fileno(), b"x", 2 * PAGE - 1)
    with Mapping.open(where) as m:
        assert m.resident() == Residency([False, True], PAGE)
        assert (m.resident().pages, m.resident().bytes) == ([False, True], PAGE)
        assert m.resident(0, 1).pages == [False]
        assert m.resident(PAGE - 1, 2).pages == [False, True]
        assert m.resident(PAGE).pages == [True]
        assert m.resident(2 * PAGE) == Residency([], 0)
        for args in ((0, 2 * PAGE + 1), (2 * PAGE + 1,), (-1,)):
            with pytest.raises(ValueError):
                m.resident(*args)
        assert m[0] == 0
        assert m.resident() == Residency([True, True], 2 * PAGE)
    with Mapping.anonymous(3 * PAGE, shared=False) as m:
        m[PAGE] = 1
        assert m.resident() == Residency([False, True, False], PAGE)
    with Mapping.open(where, offset=PAGE + 1) as m:
        assert m.resident().pages == [True]


@isolated()
def test_unmapping_happens_once(tmp_path: Path) -> None:
    """Row 16: closing twice never reaches a stranger's memory; a failed unmap keeps the handle."""
    address = free_addresses(3)
    first = Mapping.anonymous(3 * PAGE, address=address)
    first.close()
    with Mapping.anonymous(3 * PAGE, address=address) as stranger:
        stranger[:] = b"s" * len(stranger)
        first.close()
        first.close("force")
        first.close("detach")
        del first
        gc.collect()
        assert stranger[:] == b"s" * len(stranger)
        assert ctypes.string_at(address, 3 * PAGE) == b"s" * len(stranger)
    for views in ("refuse", "detach", "force"):
        m = Mapping.open(filled(tmp_path), "rw")
        outcomes = [in_thread(lambda m=m, views=views: m.close(views)) for _ in range(8)]
        assert [outcome() for outcome in outcomes] == [None] * 8
        assert m.closed
    m = Mapping(PAGE)
    view = memoryview(m)
    with pytest.raises(BufferError):
        m.close()
    m[0] = 5
    assert view[0] == 5
    view.release()
    m.close()

    size = 4 * PAGE
    start = free_addresses(12)
    row = [Mapping.anonymous(size, False, address=start + index * size) for index in range(3)]
    for index, m in enumerate(row):
        m[:] = bytes([index]) * size
    middle = row.pop(1)  # to the kernel they are one, and it may not have two more pieces now
    room = use_up_mappings()
    failed = False
    try:
        middle.close()
    except OSError:
        failed = True
    room.close()
    assert [m[:] for m in row] == [bytes(size), b"\2" * size]
    if failed:
        assert middle[:] == b"\1" * size
        middle.close()
    assert middle.closed
    Mapping.anonymous(size, False, address=start + size).close()  # it is really gone
    for m in row:
        m.close()


USES: dict[str, Callable[[Any], Any]] = {
    "length": len,
    "index": lambda m: m[0],
    "slice": lambda m: m[:],
    "assignment": lambda m: m.__setitem__(0, 1),
    "slice assignment": lambda m: m.__setitem__(slice(0, 1), b"x"),
    "iteration": list,
    "contains": lambda m: b"x" in m,
    "view": memoryview,
    "find": lambda m: m.find(b"x"),
    "rfind": lambda m: m.rfind(b"x"),
    "read": lambda m: m.read(),
    "read_byte": lambda m: m.read_byte(),
    "readline": lambda m: m.readline(),
    "seek": lambda m: m.seek(0),
    "tell": lambda m: m.tell(),
    "write": lambda m: m.write(b"x"),
    "write_byte": lambda m: m.write_byte(1),
    "move": lambda m: m.move(0, 1, 1),
    "resize": lambda m: m.resize(PAGE),
    "size": lambda m: m.size(),
    "flush": lambda m: m.flush(),
    "advise": lambda m: m.advise(Advice.NORMAL),
    "madvise": lambda m: m.madvise(Advice.NORMAL),
    "protect": lambda m: m.protect("r"),
    "lock": lambda m: m.lock(),
    "unlock": lambda m: m.unlock(),
    "resident": lambda m: m.resident(),
    "prefault": lambda m: m.prefault(),
    "refresh": lambda m: m.refresh(),
    "seal": lambda m: m.seal(Seal.GROW),
    "with": lambda m: m.__enter__(),
}


@pytest.mark.parametrize("door", DOORS)
@isolated()
def test_use_after_close(door: str, tmp_path: Path) -> None:
    """Row 17: is an exception; a stale view never reads another mapping."""
    m = DOORS[door](tmp_path)
    m.close()
    for use in USES.values():
        with pytest.raises(ClosedError):
            use(m)
    assert m.closed
    repr(m)

    m = DOORS[door](tmp_path)
    before, length = m[:], len(m)
    view = memoryview(m)
    part = view[1:].cast("B")
    shadow = numpy.ndarray(length, numpy.uint8, buffer=view)
    m.close("force")
    assert m.closed
    with pytest.raises(ClosedError):
        m[0]
    strangers = [Mapping.anonymous(length, shared=False) for _ in range(50)]
    for stranger in strangers:
        stranger[:] = b"\xee" * length
    assert bytes(view) == bytes(length)
    assert bytes(part) == bytes(length - 1)
    assert not shadow.any()
    if not view.readonly:
        view[0] = 7
    assert all(stranger[:] == b"\xee" * length for stranger in strangers)
    del view, part, shadow, m

    m = DOORS[door](tmp_path)
    unknown = numpy.ndarray(length, numpy.uint8, buffer=m)  # holds no view, only the object
    before = m[:]
    with contextlib.suppress(BufferError):
        m.close()
    strangers += [Mapping.anonymous(length, shared=False) for _ in range(50)]
    for stranger in strangers:
        stranger[:] = b"\xee" * length
    assert unknown.tobytes() in (before, bytes(length))
    for stranger in strangers:
        stranger.close()


def test_close_with_views(tmp_path: Path) -> None:
    """Row 18: refuse, detach or force; usable after a refusal; silent, and no descriptor leaks."""
    where = filled(tmp_path)
    content = where.read_bytes()
    m = Mapping.open(where, "rw")
    assert m.views == 0
    view = memoryview(m)
    part = view[5:10]
    array_view = numpy.frombuffer(m, numpy.uint8)
    assert m.views == 2
    with pytest.raises(BufferError):
        m.close("refuse")
    with pytest.raises(BufferError), m:
        assert m[:] == content
    assert (m[:], bytes(view), m.views) == (content, content, 2)
    m.close("detach")
    assert m.closed
    with pytest.raises(ClosedError):
        m[0]
    assert bytes(view) == array_view.tobytes() == content
    part[0] ^= 1
    assert where.read_bytes()[5] == content[5] ^ 1 == view[5] == array_view[5]
    m.close("refuse")
    m.close("force")
    assert view[5] == content[5] ^ 1, "closing twice does nothing"
    del view, part, array_view, m

    m = Mapping.open(where, "rw")
    view = memoryview(m)
    m.close("force")
    assert bytes(view) == bytes(len(content))
    view[:] = b"x" * len(content)
    assert where.read_bytes()[6:] == content[6:], "the file is out of reach"
    view.release()

    script = f"""
import gc, shmipc
for views in ("refuse", "detach", "force"):
    m = shmipc.Mapping.open({str(where)!r}, "rw")
    view = memoryview(m)
    part = view[2:5]
    try:
        m.close(views)
    except BufferError:
        pass
    del m
    gc.collect()
    part[0]
keep = shmipc.Mapping(9)
kept = memoryview(keep)
cycle = [shmipc.Mapping.anonymous(9)]
cycle.append(cycle)
"""
    done = run_python("-X", "dev", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@isolated()
def test_the_garbage_collector_unmaps(tmp_path: Path) -> None:
    """Row 19: derived views included; an array that outlives its owner is no crash."""
    before = active_count(), active_bytes()
    for door in DOORS.values():
        m = door(tmp_path)
        content, length = m[:], len(m)
        gone = weakref.ref(m)
        holders: list[Any] = [
            memoryview(m)[1:],
            memoryview(m).cast("B", (length // 4, 4)) if length % 4 == 0 else memoryview(m),
            numpy.frombuffer(m, numpy.uint8)[1:].reshape(-1, 1),
            numpy.ndarray(length - 1, numpy.uint8, memoryview(m)[1:]),
            numpy.ndarray(length - 1, numpy.uint8, m, 1),
            (ctypes.c_char * (length - 1)).from_buffer(m, 1) if not m.readonly else m,
        ]
        address = m.address
        del m
        gc.collect()
        while holders:
            whole = bytes(holders[-1])
            assert whole[-100:] == content[-100:]
            assert maps_line(address)
            holders.pop()
            gc.collect()
        assert gone() is None
        assert (active_count(), active_bytes()) == before
    cycle: list[Any] = [Mapping(PAGE)]
    cycle += [cycle, memoryview(cycle[0])]
    assert active_count() == before[0] + 1
    del cycle
    gc.collect()
    assert (active_count(), active_bytes()) == before


@isolated()
def test_counters(tmp_path: Path) -> None:
    """Row 20: active mappings, and bytes in whole pages; right under threads, 0 in the end."""
    where = filled(tmp_path)
    assert (active_count(), active_bytes()) == (0, 0)
    for length, pages in ((1, 1), (PAGE, 1), (PAGE + 1, 2)):
        doors: list[Callable[[], Any]] = [
            lambda length=length: Mapping(length),
            lambda length=length: Mapping.anonymous(length),
            lambda length=length: Mapping.anonymous(length, shared=False),
            lambda length=length: Mapping.open(where, length=length),
        ]
        for door in doors:
            m = door()
            assert (active_count(), active_bytes()) == (1, pages * PAGE)
            m.close()
            assert (active_count(), active_bytes()) == (0, 0)
    with Mapping.open(where, offset=PAGE - 1, length=2):
        assert active_bytes() == 2 * PAGE
    barrier = threading.Barrier(8)

    def churn() -> None:
        for turn in range(300):
            kept = [Mapping.anonymous(PAGE + 1), Mapping.open(where)]
            kept[turn % 2].close()
            del kept
        last = Mapping(3 * PAGE)
        barrier.wait()
        assert (active_count(), active_bytes()) == (8, 24 * PAGE)
        barrier.wait()
        last.close()

    for outcome in [in_thread(churn) for _ in range(8)]:
        outcome()
    gc.collect()
    assert (active_count(), active_bytes()) == (0, 0)


# --- rows 21 to 30 ------------------------------------------------------------------------------


@isolated()
def test_the_safe_reader(tmp_path: Path) -> None:
    """Row 21: end-of-file rules; closed raises; close waits for parallel readers."""
    where = filled(tmp_path, 10_000)
    content = where.read_bytes()
    with Reader(where) as r:
        assert len(r) == 10_000
        assert [r.at(i) for i in (0, 4096, 9999)] == [content[i] for i in (0, 4096, 9999)]
        for index in (10_000, 1 << 70):
            with pytest.raises(IndexError):
                r.at(index)
        assert r.read_at(100, 50) == content[50:150]
        assert r.read_at(100, 9_950) == content[9_950:]
        assert r.read_at(100, 10_000) == r.read_at(100, 99_999) == r.read_at(0, 0) == b""
        for args in ((-1, 0), (1, -1)):
            with pytest.raises(ValueError):
                r.read_at(*args)
        buffer = bytearray(100)
        assert r.readinto_at(buffer, 9_950) == 50
        assert buffer == content[9_950:] + bytes(50)
        assert r.readinto_at(buffer, 10_000) == r.readinto_at(bytearray(), 5) == 0
        with pytest.raises((TypeError, BufferError)):
            r.readinto_at(b"read-only", 0)
        with pytest.raises(TypeError):
            memoryview(r)  # type: ignore[arg-type]
        assert io.BufferedReader(r.raw()).read() == content
    for use in (
        lambda: r.at(0),
        lambda: r.read_at(1, 0),
        lambda: r.readinto_at(bytearray(1), 0),
        lambda: r.raw(),
        lambda: len(r),
    ):
        with pytest.raises(ClosedError):
            use()
    r.close()
    with Reader(where, offset=4097, length=100) as r:
        assert (len(r), r.read_at(1000, 1)) == (100, content[4098:4197])
    os.truncate(where, 0)
    with Reader(where) as r:
        assert (len(r), r.read_at(5, 0)) == (0, b"")

    ended = threading.Event()
    where.write_bytes(content * 1000)

    def read_on(r: Any) -> None:
        while not ended.is_set():
            r.read_at(len(r), 0)

    with Reader(where) as r:
        busy = in_thread(lambda: read_on(r))
        for _ in range(5):
            ended.wait(0.01)
            in_child(r.close)  # where nobody reads
        ended.set()
        busy()

    size = 64 << 20
    with where.open("wb") as file:
        file.write(b"a")
        file.truncate(size)
        os.pwrite(file.fileno(), b"z", size - 1)
    for _ in range(5):
        r = Reader(where)
        targets = [bytearray(size) for _ in range(4)]
        outcomes = [in_thread(lambda r=r, t=t: r.readinto_at(t, 0)) for t in targets]
        while not any(target[0] for target in targets):
            pass
        r.close()
        for target in targets:
            assert target[0] == 0 or target[-1] == ord("z"), "close came before the end of a read"
        for outcome in outcomes:
            with contextlib.suppress(ClosedError):
                assert outcome() == size


def corpus(path: Path) -> Path:
    """An archive that is text and numbers as well."""
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("story")
        text = b"key = value\nother = 5\n" + b"once upon a time\n" * 300
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return path


def story(archive: Any) -> bytes:
    with tarfile.open(fileobj=archive) as opened:
        found = opened.extractfile("story")
        assert found is not None
        return found.read()


TAKERS: list[Callable[[Any], Any]] = [
    bytes,
    bytearray,
    list,
    lambda m: m.read(10) + m.readline() + m.read(),
    lambda m: list(iter(m.readline, b"")),
    lambda m: (m.find(b"key"), m.rfind(b"e"), m.find(b"key", 12), m.rfind(b"key", 0, 9)),
    lambda m: [found.span() for found in re.finditer(rb"(\w+) = (\w+)", m)],
    lambda m: hashlib.sha256(m).digest(),
    lambda m: zlib.crc32(m),
    lambda m: zlib.compress(m),
    lambda m: base64.b64encode(m),
    lambda m: struct.unpack_from("<7sI", m, 1),
    lambda m: int.from_bytes(m[7:11], "little"),
    lambda m: story(m),
    lambda m: io.BytesIO(m).read(),
    lambda m: b"".join([m, b"end"]),
    lambda m: array.array("B", m[:]).tolist(),
    lambda m: numpy.frombuffer(m, numpy.uint8).sum(),
    lambda m: (m.seek(-5, 2), m.tell(), m.read())[1:],
    lambda m: (m.write(b"new"), m.write_byte(66), m.move(0, 5, 20), m.tell(), m[:50]),
    lambda m: (m.size(), len(m), m.closed),
    lambda m: (m.resize(PAGE + 9), len(m), m.size(), m[:]),
    lambda m: (m.__setitem__(slice(0, 8, 2), b"abcd"), m[:20:3], m[::-1][-9:]),
]


@pytest.mark.parametrize("taker", range(len(TAKERS)))
def test_whatever_takes_an_mmap_takes_a_mapping(taker: int, tmp_path: Path) -> None:
    """Row 22: a view and a file-like object in one, as mmap.mmap is."""
    use = TAKERS[taker]
    with corpus(tmp_path / "plain").open("r+b") as file, mmap.mmap(file.fileno(), 0) as plain:
        expected = use(plain)
        content = plain[:]
    with Mapping.open(corpus(tmp_path / "ours"), "rw") as m:
        assert use(m) == expected
        gc.collect()
        assert m[:] == content


@isolated()
def test_lost_memory_is_an_exception(tmp_path: Path) -> None:
    """Row 23: memory that cannot be lost, copies that cannot fault, a handler for bare views."""
    with Mapping(3 * PAGE) as m, sent_descriptor(m) as fd:
        for length in (0, PAGE, 4 * PAGE):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, length)
        assert m[:] == bytes(3 * PAGE)

    for offset in (0, 4097):
        where = filled(tmp_path)
        content = where.read_bytes()
        with Mapping.open(where, "rw", offset=offset) as m:
            os.truncate(where, 2 * PAGE + 100)
            first = 3 * PAGE - offset  # no page is there from here on
            assert m[: first - PAGE + 100] == content[offset : 2 * PAGE + 100]
            check_faults(m, first, where)
            os.truncate(where, len(content))
            assert m[first:] == bytes(len(content) - 3 * PAGE)
            m[-1] = 1
            os.truncate(where, 0)
            check_faults(m, first, where)
            with pytest.raises(MappingFault):
                m[0]

    with Reader(filled(tmp_path)) as r:
        os.truncate(r.name if hasattr(r, "name") else sorted(tmp_path.iterdir())[-1], 0)
        with contextlib.suppress(MappingFault):
            assert r.read_at(100, 4 * PAGE) == b""
        with pytest.raises((MappingFault, IndexError)):
            r.at(4 * PAGE)

    full = tmp_path / "volume"
    full.mkdir()
    with small_volume(full) as mounted:
        if mounted:
            with (full / "sparse").open("wb") as file:
                file.truncate(1 << 20)
            with Mapping.open(full / "sparse", "rw") as m:
                with pytest.raises(MappingFault):
                    for index in range(0, 1 << 20, PAGE):
                        m[index] = 1
                with pytest.raises(MappingFault):
                    m[:] = b"x" * len(m)
                assert m[0] == ord("x") or m[0] == 1

    shmipc.guard_faults()
    shmipc.guard_faults()
    where = filled(tmp_path)
    content = where.read_bytes()
    m = Mapping.open(where, "rw")
    view = memoryview(m)
    other = Mapping.open(filled(tmp_path))
    os.truncate(where, PAGE)
    assert bytes(view) == content[:PAGE] + bytes(4 * PAGE)
    for _ in range(2):
        for use in (lambda: m[0], lambda: m[:], lambda: m.find(b"x"), lambda: m.read(1)):
            with pytest.raises(MappingFault) as error:
                use()
            assert error.value.filename == str(where)
    assert other[:] == Path(str(other.name)).read_bytes(), "the others are as they were"
    view[-1] = 1  # does no harm
    del view
    assert m.refresh()
    assert m[:] == content[:PAGE]
    os.truncate(where, 0)
    with pytest.raises(MappingFault):  # without a view
        m[5]
    os.truncate(where, PAGE)
    m.refresh()
    assert m[:] == bytes(PAGE)

    def use_in_child() -> None:
        view = memoryview(m)
        os.truncate(where, 0)
        with pytest.raises(MappingFault):
            m[5]
        assert bytes(view) == bytes(PAGE)
        shmipc.guard_faults()
        with pytest.raises(MappingFault):
            m[5]

    in_child(use_in_child)
    m.close()
    other.close()
    shmipc.unguard_faults()

    script = f"""
import faulthandler, mmap, os, shmipc
faulthandler.enable()
shmipc.guard_faults()
with open({str(filled(tmp_path))!r}, "r+b") as file:
    foreign = mmap.mmap(file.fileno(), 0)
    file.truncate(0)
print(foreign[0])
"""
    done = run_python("-c", script)
    assert done.returncode == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in done.stderr, "the handler that was there is asked"


def check_faults(m: Any, first: int, where: Path) -> None:
    """Every access of an object to bytes from `first` on is a fault, whose place is told."""
    uses: list[Callable[[], Any]] = [
        lambda: m[first],
        lambda: m[-1],
        lambda: m[first - 5 : first + 5],
        lambda: m[:],
        lambda: m[::100],
        lambda: m.find(b"not in there", 0),
        lambda: m.rfind(b"not in there", 0),
        lambda: list(m),
        lambda: m.__setitem__(first, 1),
        lambda: m.__setitem__(slice(first, first + 2), b"ab"),
        lambda: m.__setitem__(slice(first, first + 4, 2), b"ab"),
        lambda: (m.seek(first), m.read(1)),
        lambda: (m.seek(first), m.read_byte()),
        lambda: (m.seek(first), m.readline()),
        lambda: (m.seek(first), m.write(b"x")),
        lambda: (m.seek(first), m.write_byte(1)),
        lambda: m.move(first, 0, 1),
        lambda: m.move(0, first, 1),
        lambda: m.prefault(),
    ]
    for use in uses:
        with pytest.raises(MappingFault) as error:
            use()
        assert isinstance(error.value, OSError) and isinstance(error.value, ShmipcError)
        assert error.value.filename == str(where)
        assert 0 <= error.value.offset < m.offset + len(m)
    with pytest.raises(MappingFault) as error:
        m[first]
    assert error.value.offset // PAGE == (m.offset + first) // PAGE


@contextlib.contextmanager
def sent_descriptor(m: Any) -> Iterator[int]:
    """The descriptor that a peer gets."""
    with sockets() as (here, there):
        m.send_fd(here)
        _, (fd,), _, _ = socket.recv_fds(there, 4096, 1)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def small_volume(path: Path) -> Iterator[bool]:
    """A file system of 64 KiB at `path`; False where it cannot be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "shmipc-test", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@isolated()
def test_memory_is_committed_when_it_is_made(name: str, tmp_path: Path) -> None:
    """Row 24: what there is no room for is ENOSPC at once, with a hint."""
    machine = os.sysconf("SC_PHYS_PAGES") * PAGE
    too_much = max(200 << 30, 8 * machine)
    doors: list[Callable[[], Any]] = [
        lambda: Mapping(too_much),
        lambda: Segment.create(name, too_much),
    ]
    with small_volume(tmp_path) as mounted:
        if mounted:
            (tmp_path / "file").write_bytes(b"content")
            doors.append(lambda: Mapping.open(tmp_path / "file", "rw", length=1 << 20, extend=True))
        for door in doors:
            with pytest.raises(OSError) as error:
                door()
            assert error.value.errno == errno.ENOSPC
            assert len(str(error.value)) > len(os.strerror(errno.ENOSPC)) + 30, "no hint"
        if mounted:
            assert (tmp_path / "file").read_bytes() == b"content"
    assert not file_of(name).exists()
    with Mapping(4 << 20) as m, sent_descriptor(m) as fd:
        assert os.fstat(fd).st_blocks * 512 >= 4 << 20


@isolated()
def test_growing_in_place(tmp_path: Path) -> None:
    """Row 25: old views stay valid, new memory is there; shrinking has rules."""
    where = filled(tmp_path, PAGE)
    content = where.read_bytes()
    for m in (
        Mapping(PAGE, max_size=256 << 20),
        Mapping.anonymous(PAGE, max_size=256 << 20),
        Mapping.open(where, "rw", max_size=256 << 20),
    ):
        m[:] = content
        address, view = m.address, memoryview(m)
        assert m.max_size == 256 << 20
        for length in (PAGE + 1, 10 * PAGE + 5, 1 << 20, 64 << 20):
            old = len(m)
            m.resize(length)
            assert (len(m), m.address, m.size()) == (length, address, length)
            assert m[:PAGE] == view == content
            assert not any(m[old : old + PAGE])
            memoryview(m)[old] = 2
            assert m[old] == 2
            m[-1] = 1
            assert in_child(lambda m=m: memoryview(m)[-1]) == 1
        view[0] ^= 1
        assert m[0] == content[0] ^ 1
        content = m[:PAGE]
        with pytest.raises(BufferError):
            m.resize((256 << 20) + 1)
        with pytest.raises((BufferError, ValueError)):
            m.resize(PAGE)
        assert len(m) == 64 << 20
        view.release()
        m.close()

    with Mapping.open(where, "rw") as m:
        view = memoryview(m)
        for length in (PAGE, 1 << 20):
            with pytest.raises(BufferError):
                m.resize(length)
        view.release()
        for length in (PAGE, 128 << 20, PAGE + 1, 1, 5 * PAGE):
            m.resize(length)
            assert len(m) == where.stat().st_size == length
        assert m[0] == content[0] and not any(m[1:])
        m[-1] = 1
        for wrong in (-1, 1 << 70):
            with pytest.raises((ValueError, OverflowError)):
                m.resize(wrong)
        with pytest.raises(TypeError):
            m.resize("8")
    for access in ("r", "copy"):
        with Mapping.open(where, access) as m, pytest.raises(TypeError):
            m.resize(2 * PAGE)
    with Mapping(PAGE) as m:
        for length in (2 * PAGE, 1):
            with pytest.raises(ValueError):
                m.resize(length)
    with Mapping(2 * PAGE, max_size=4 * PAGE) as m:
        with pytest.raises(ValueError):  # sealed against it
            m.resize(PAGE)
        assert len(m) == 2 * PAGE
    for door in (Mapping, Mapping.anonymous):
        with pytest.raises(ValueError):
            door(2 * PAGE, max_size=PAGE)
    with pytest.raises((TypeError, ValueError)):
        Mapping.anonymous(PAGE, shared=False, max_size=2 * PAGE)


def test_refresh(tmp_path: Path) -> None:
    """Row 26: a changed size is noticed."""
    for size in (0, 1, PAGE - 1, PAGE, 3 * PAGE + 5):
        where = filled(tmp_path, size)
        with (
            Mapping.open(where) as plain,
            Mapping.open(where, "rw", max_size=1 << 20) as roomy,
            Mapping.open(where, length=size) as fixed,
            where.open("ab") as file,
        ):
            view = memoryview(roomy)
            for _ in range(5):
                assert not plain.refresh() and not roomy.refresh()
                file.write(os.urandom(3000))
                file.flush()
                content = where.read_bytes()
                assert len(plain) == len(roomy) == len(content) - 3000
                assert plain.size() == roomy.size() == len(content)
                assert plain.refresh() and roomy.refresh()
                assert plain[:] == roomy[:] == memoryview(roomy) == content
            assert not fixed.refresh()
            assert fixed[:] == view == content[:size]
            held = memoryview(plain)
            file.write(b"more")
            file.flush()
            with pytest.raises(BufferError):
                plain.refresh()
            assert bytes(held) == plain[:] == content
            held.release()
            assert plain.refresh()
            assert plain[-4:] == b"more"
            os.truncate(where, 10)
            with pytest.raises(BufferError):
                roomy.refresh()
            view.release()
            for m in (plain, roomy):
                assert m.refresh()
                assert m[:] == (content + b"more")[:10]
                assert not m.refresh()
    with Mapping(PAGE) as memory, Mapping.anonymous(PAGE) as anonymous:
        assert not memory.refresh() and not anonymous.refresh()


@isolated()
def test_prefault(tmp_path: Path) -> None:
    """Row 27: memory is there afterwards; past the end is an exception."""
    where = tmp_path / "sparse"
    with where.open("wb") as file:
        file.truncate(8 * PAGE)
    with Mapping.open(where, "rw") as m:
        m.prefault(PAGE, 1)
        assert m.resident().pages[1]
        m.prefault()
        assert all(m.resident().pages)
        assert where.stat().st_blocks == 0, "reading takes no room"
        m.prefault(PAGE - 1, 2, write=True)
        assert where.stat().st_blocks * 512 >= 2 * PAGE
        m.prefault(write=True)
        assert where.stat().st_blocks * 512 >= 8 * PAGE
        for args in ((0, 8 * PAGE + 1), (8 * PAGE + 1,), (-1,)):
            with pytest.raises(ValueError):
                m.prefault(*args)
        os.truncate(where, 2 * PAGE)
        m.prefault(0, 2 * PAGE)
        for write in (False, True):
            with pytest.raises(MappingFault) as error:
                m.prefault(write=write)
            assert error.value.filename == str(where)
    with Mapping.open(where, "r") as m:
        m.prefault()
        with pytest.raises((TypeError, PermissionError)):
            m.prefault(write=True)
    with Mapping.open(where, "copy") as m:
        m.prefault(write=True)
    with Mapping.anonymous(4 * PAGE, shared=False) as m:
        m.prefault(PAGE, PAGE, write=True)
        assert m.resident().pages == [False, True, False, False]


def test_huge_pages() -> None:
    """Row 28: without a pool ENOMEM, or a fallback that is reported."""
    for door in (Mapping, Mapping.anonymous):
        with door(3 << 20, huge_pages="try") as m:
            assert m.page_size >= PAGE
            assert len(m) == 3 << 20
            m[0], m[-1] = 1, 2
            shown = int(smaps(m.address)["KernelPageSize"].split()[0]) * 1024
            assert m.page_size == shown
        try:
            m = door(3 << 20, huge_pages="require")
        except OSError as error:
            assert error.errno == errno.ENOMEM
            assert "huge" in str(error)
        else:
            with m:
                m[0], m[-1] = 1, 2
                assert m.page_size > PAGE
        for wrong in ("maybe", 5, True):
            with pytest.raises((TypeError, ValueError), match="huge_pages"):
                door(PAGE, huge_pages=wrong)


@isolated()
def test_seals_and_descriptor_passing(tmp_path: Path) -> None:
    """Row 29: nobody can truncate what is sealed; a peer's kind, size and seals are verified."""
    with Mapping(2 * PAGE) as fixed, Mapping(2 * PAGE, max_size=8 * PAGE) as growing:
        assert fixed.seals & (Seal.SHRINK | Seal.GROW) == Seal.SHRINK | Seal.GROW
        assert growing.seals & (Seal.SHRINK | Seal.GROW) == Seal.SHRINK
        for m in (fixed, growing):
            with sent_descriptor(m) as fd:
                assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == m.seals
                with pytest.raises(PermissionError):
                    os.ftruncate(fd, PAGE)
        growing.seal(Seal.GROW)
        assert Seal.GROW in growing.seals
        with pytest.raises((ValueError, PermissionError)):
            growing.resize(4 * PAGE)
        assert len(growing) == 2 * PAGE
        with pytest.raises(OSError):
            growing.seal(Seal.WRITE)  # it is mapped to be written
        growing[0] = 1

    with sockets() as (here, there), Mapping(3 * PAGE) as m:
        m[:5] = b"hello"
        m.send_fd(here)

        def answer() -> bytes:
            with Mapping.recv_fd(there) as received:
                greeting = received[:5]
                received[-5:] = b"world"
                assert (len(received), received.access) == (3 * PAGE, "rw")
                assert Seal.SHRINK in received.seals
                return bytes(greeting)

        assert in_child(answer) == b"hello"
        assert m[-5:] == b"world"
        m.send_fd(here)
        with Mapping.recv_fd(there, "r") as received:
            assert (received[:5], received.readonly) == (b"hello", True)
        m.seal(Seal.FUTURE_WRITE)
        m[0] = ord("j")
        m.send_fd(here)
        with pytest.raises((PermissionError, LayoutError)):
            Mapping.recv_fd(there, "rw")
        m.send_fd(here)
        with Mapping.recv_fd(there, "r", Seal.SHRINK | Seal.FUTURE_WRITE) as received:
            assert received[:5] == b"jello"

        m.send_fd(here)
        message, (fd,), _, _ = socket.recv_fds(there, 4096, 1)
        os.close(fd)
        opened = len(os.listdir("/proc/self/fd"))
        for strange in strangers(tmp_path):
            socket.send_fds(here, [message], [strange])
            os.close(strange)
            with pytest.raises(LayoutError):
                Mapping.recv_fd(there)
            assert len(os.listdir("/proc/self/fd")) == opened, "nothing stays open"
        here.send(message)  # without a descriptor
        with pytest.raises((LayoutError, OSError)):
            Mapping.recv_fd(there)
        for start, value in itertools.product(range(0, len(message), 8), LIES):
            with sent_descriptor(m) as fd:
                lie = message[:start] + struct.pack("=Q", value) + message[start + 8 :]
                socket.send_fds(here, [lie], [fd])
            with (
                contextlib.suppress(LayoutError, ValueError, OSError, OverflowError),
                Mapping.recv_fd(there, "r") as received,
            ):
                assert received.page_size == PAGE
                assert m[:].startswith(received[:])
        assert len(os.listdir("/proc/self/fd")) == opened
    with pytest.raises((TypeError, ValueError)):
        Mapping.anonymous(PAGE).seal(Seal.SHRINK)


LIES = (0, 1, 3, PAGE + 1, 1 << 20, 1 << 21, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - PAGE)


def strangers(tmp_path: Path) -> Iterator[int]:
    """Descriptors that a peer may send by mistake or malice."""

    def memfd(size: int, seals: int) -> int:
        fd = os.memfd_create("stranger", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    yield memfd(3 * PAGE, 0)
    yield memfd(3 * PAGE, fcntl.F_SEAL_GROW)
    yield os.memfd_create("unsealable")
    yield os.open(filled(tmp_path), os.O_RDWR)
    yield os.open(tmp_path, os.O_RDONLY)
    reader, writer = os.pipe()
    os.close(writer)
    yield reader


@isolated()
def test_named_memory(name: str) -> None:
    """Row 30: create exclusively, open, attach read-only; no tracker, nothing is unlinked."""
    with Segment.create(name, 100, mode=0o640) as first:
        assert stat.S_IMODE(file_of(name).stat().st_mode) == 0o640
        with pytest.raises(FileExistsError, match=name):
            Segment.create(name, 100)
        first[:5] = b"hello"
        with Segment.open(name, 100, mode=0o640) as second:
            assert (second[:5], second.find(b"lo"), second.read(2)) == (b"hello", 3, b"he")
        with Segment.attach(name, access="r", mode=0o640) as reader:
            assert (reader[:5], reader[0], len(reader)) == (b"hello", ord("h"), 100)
            for view in (memoryview(reader), reader.buf):
                assert view.readonly and view[:5] == b"hello"
            assert not numpy.frombuffer(reader, numpy.uint8).flags.writeable
            for write in (
                lambda: reader.__setitem__(0, 1),
                lambda: reader.__setitem__(slice(0, 2), b"ab"),
                lambda: reader.write(b"x"),
                lambda: memoryview(reader).__setitem__(0, 1),
            ):
                with pytest.raises(TypeError):
                    write()
            first[0] = ord("j")
            assert reader[:5] == b"jello"
            del view
        with pytest.raises(ValueError, match="access"):
            Segment.attach(name, access="some", mode=0o640)
        script = f"""
import sys, shmipc
for access in "r", "rw":
    shmipc.Segment.attach({name!r}, access=access, mode=0o640)
tracker = sys.modules.get("multiprocessing.resource_tracker")
assert tracker is None or tracker._resource_tracker._fd is None
"""
        done = run_python("-c", script)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert file_of(name).exists()
        with pytest.raises(FileNotFoundError):
            Segment.attach(name + "-other")
        first.unlink()


# --- rows 31 to 40 ------------------------------------------------------------------------------


@isolated()
def test_the_creation_race(name: str) -> None:
    """Row 31: who comes early waits with a timeout; nobody sees a segment half made."""
    gate = Gate()

    def attach() -> tuple[int, bytes]:
        gate.open()
        with Segment.attach(name, timeout=60) as segment:
            return len(segment), bytes(segment[:5])

    early = [Forked(attach) for _ in range(4)]
    for _ in early:
        gate.wait()
    with Segment.create(name, 1 << 20) as segment:
        assert [child.result()[0] for child in early] == [1 << 20] * 4
        segment.unlink()
    with pytest.raises(FileNotFoundError):
        Segment.attach(name, timeout=0.05)

    for _ in range(10):

        def open_and_sign(index: int) -> int:
            gate.wait()
            with Segment.open(name, 4096) as segment:
                segment[index] = 1
                return len(segment)

        racers = [Forked(open_and_sign, index) for index in range(8)]
        gate.open(8)
        assert [racer.result() for racer in racers] == [4096] * 8
        with Segment.attach(name) as segment:
            assert segment[:9] == b"\1" * 8 + b"\0"
            segment.unlink()
    gate.close()


@isolated()
def test_cleaning_up_after_crashes(name: str) -> None:
    """Row 32: who owns it is written in it; the dead are replaced; a fork child never unlinks."""
    gate = Gate()

    def create_and_stay() -> None:
        segment = Segment.create(name, 64, unlink="last")
        segment[:4] = b"dead"
        gate.open()
        signal.pause()

    child = Forked(create_and_stay)
    gate.wait()
    with Segment.attach(name) as seen:
        assert {who.pid for who in seen.participants() if who.alive} == {child.pid, os.getpid()}
    with pytest.raises(FileExistsError):
        Segment.create(name, 64, replace="dead")
    child.kill()
    assert file_of(name).exists()
    with Segment.create(name, 64, replace="dead", unlink="last") as segment:
        assert segment[:] == bytes(64)
        in_child(lambda: segment[:4])
        in_child(segment.close)
        assert file_of(name).exists()
        segment[:4] = b"live"
    assert not file_of(name).exists()
    gate.close()


@isolated()
def test_both_sides_see_the_same_length(name: str) -> None:
    """Row 33: the length that was asked for, not whole pages."""
    for length in (1, 7, PAGE - 1, PAGE, PAGE + 1, 100_001):
        with Segment.create(name, length) as first:
            for access in ("r", "rw"):
                with Segment.attach(name, access=access) as second:
                    assert len(first) == len(second) == length
                    assert len(second[:]) == memoryview(second).nbytes == length
                    with pytest.raises(IndexError):
                        second[length]

            def lengths() -> tuple[int, int]:
                with Segment.attach(name) as third:
                    return len(third), len(third.read())

            assert in_child(lengths) == (length, length)
            first.unlink()


@isolated()
def test_fork(name: str, tmp_path: Path) -> None:
    """Row 34: a child sees the same memory, and its exit leaves it alone."""
    script = f"""
import os, sys, shmipc
things = [
    shmipc.Segment.create({name!r}, 64, unlink="last"),
    shmipc.Mapping(64),
    shmipc.Mapping.anonymous(64),
    shmipc.Mapping.open({str(filled(tmp_path))!r}, "rw"),
]
for end in (sys.exit, lambda: [thing.close() for thing in things]):
    pid = os.fork()
    if pid == 0:
        for thing in things:
            thing[0] = 77
        end()
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
    for thing in things:
        assert thing[0] == 77 and not thing.closed
        thing[0] = 1
    assert os.path.exists(things[0].path)
"""
    done = run_python("-X", "dev", "-W", "error", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    with Mapping.open(filled(tmp_path), "copy") as m:
        before = m[0]
        m[1] = 7

        def write_own() -> tuple[int, int]:
            m[0] = before ^ 1
            return m[0], m[1]

        assert in_child(write_own) == (before ^ 1, 7)
        assert m[0] == before

    def force_close(m: Any, view: Any) -> bytes:
        m.close("force")
        return bytes(view[:4])

    with Mapping(64) as m:
        m[:4] = b"kept"
        view = memoryview(m)
        assert in_child(force_close, m, view) == bytes(4)
        assert m[:4] == view[:4] == b"kept"
        view.release()


@pytest.mark.parametrize("library", ["multiprocessing", "multiprocess"])
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
@isolated(fresh=True)
def test_pickling_keeps_every_option(start: str, library: str, tmp_path: Path) -> None:
    """Row 35: what arrives is equal, and is the same memory."""
    context: Any = importlib.import_module(library).get_context(start)
    where = filled(tmp_path)
    things = [
        Mapping(5000),
        Mapping(5000, max_size=1 << 20),
        Mapping(5000, huge_pages="try"),
        Mapping.open(where, "r"),
        Mapping.open(where, "rw", offset=4097, length=100),
        Mapping.open(where, "rw", offset=1, max_size=1 << 20),
    ]
    things[0].protect("r")
    with context.Pool(1) as pool:
        for thing in things:
            assert pool.apply(facts, (thing,)) == facts(thing)
            with pickle.loads(reduction.ForkingPickler.dumps(thing)) as back:
                assert facts(back) == facts(thing)
                if not thing.readonly:
                    assert pool.apply(set_first, (thing,)) == 42
                    assert thing[0] == back[0] == 42
        assert not pool.apply(set_first, (things[0],))
        pool.close()
        pool.join()
    for thing in things:
        thing.close()
    with Segment.create(tmp_path / "segment", 100) as segment:
        segment[:5] = b"hello"
        for access in ("r", "rw"):
            with (
                Segment.attach(tmp_path / "segment", access=access) as attached,
                pickle.loads(reduction.ForkingPickler.dumps(attached)) as back,
            ):
                assert (len(back), back[:5], back.readonly) == (100, b"hello", access == "r")
                assert memoryview(back).readonly == (access == "r")
        segment.unlink()
    for anonymous in (Mapping.anonymous(5), Mapping.anonymous(5, shared=False)):
        with anonymous, pytest.raises(TypeError):
            reduction.ForkingPickler.dumps(anonymous)


def facts(m: Any) -> list[Any]:
    """What an option makes observable."""
    return [m.access, m.offset, len(m), m.max_size, m.page_size, m.name, m.seals, m.readonly, m[:9]]


def echo(m: Any) -> Any:
    return m


def set_first(m: Any) -> int:
    if m.readonly:
        return 0
    m[0] = 42
    return int(m[0])


@isolated(limit=120)
def test_many_mappings(tmp_path: Path) -> None:
    """Row 36: no descriptor for each; vm.max_map_count is an error of its own."""
    where = filled(tmp_path, 2 * PAGE)
    content = where.read_bytes()
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    opened = len(os.listdir("/proc/self/fd"))
    many: list[Any] = [None] * 70_000
    for index in range(10_000):
        many[index] = Mapping.open(where, offset=index % PAGE, length=100)
    assert len(os.listdir("/proc/self/fd")) - opened <= 3
    for index in range(0, 10_000, 999):
        assert many[index][:] == content[index % PAGE : index % PAGE + 100]
    for index in range(10_000):
        many[index].close()

    other = filled(tmp_path, PAGE)
    other_content = other.read_bytes()
    ended = threading.Event()

    def open_one(path: Path, expected: bytes) -> None:
        while not ended.is_set():
            with Mapping.open(path) as m:
                assert m[:] == expected, "it is another file's"

    pairs = [(where, content), (other, other_content)] * 4
    outcomes = [in_thread(lambda pair=pair: open_one(*pair)) for pair in pairs]
    ended.wait(1)
    ended.set()
    for outcome in outcomes:
        outcome()

    room = use_up_mappings(limit - 66_000) if limit > 66_000 else None
    count = 0
    with pytest.raises(MappingLimitError) as error:
        while count < len(many):
            many[count] = Mapping.open(where)
            count += 1
    assert count > 10_000
    with pytest.raises(MappingLimitError):
        Mapping.anonymous(PAGE, shared=False)
    assert isinstance(error.value, OSError) and isinstance(error.value, ShmipcError)
    assert error.value.errno == errno.ENOMEM
    assert "max_map_count" in str(error.value)
    with pytest.raises(MappingLimitError):
        many[0].protect("none", 0, 1)  # would make two of one
    assert many[0][:] == many[count - 1][:] == content
    assert active_count() == count
    for m in many[:count]:
        m.close()
    assert (active_count(), active_bytes()) == (0, 0)
    with Mapping.open(where) as m:
        assert m[:] == content
    del room

    script = f"""
import shmipc
many = []
try:
    while True:
        many.append(shmipc.Mapping.open({str(where)!r}))
except shmipc.MappingLimitError:
    many.clear()
shmipc.Mapping.open({str(where)!r})[0]
"""
    if limit < 200_000:  # with no memory put by for the error
        done = run_python("-c", script)
        assert (done.returncode, done.stderr) == (0, "")


def use_up_mappings(most: int = 1 << 30) -> mmap.mmap:
    """Memory that counts as so many mappings that there can be no other, or as `most`."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    room = mmap.mmap(-1, (limit + 2) * PAGE)
    start = address_of(room)
    mprotect = ctypes.CDLL(None).mprotect
    for index in range(1, min(limit, most), 2):
        if mprotect(ctypes.c_void_p(start + index * PAGE), ctypes.c_size_t(PAGE), 0) != 0:
            break
    return room


class Meddler:
    """A number whose `__index__` does something to a mapping first."""

    def __init__(self, deed: Callable[[], Any], value: int = 1) -> None:
        self.deed, self.value = deed, value

    def __index__(self) -> int:
        self.deed()
        return self.value


MEDDLED: list[Callable[[Any, Any], Any]] = [
    lambda m, i: m[i],
    lambda m, i: m[i:],
    lambda m, i: m[:i],
    lambda m, i: m[::i],
    lambda m, i: m[1:i:2],
    lambda m, i: m.__setitem__(i, 1),
    lambda m, i: m.__setitem__(0, i),
    lambda m, i: m.__setitem__(slice(i, 3), b"ab"),
    lambda m, i: m.__setitem__(slice(0, 2, i), b"ab"),
    lambda m, i: m.find(b"x", i),
    lambda m, i: m.find(b"x", 0, i),
    lambda m, i: m.rfind(b"x", i, i),
    lambda m, i: i in m,
    lambda m, i: m.read(i),
    lambda m, i: m.seek(i),
    lambda m, i: m.seek(0, i),
    lambda m, i: m.write_byte(i),
    lambda m, i: m.move(i, 0, 1),
    lambda m, i: m.move(0, i, 1),
    lambda m, i: m.move(0, 1, i),
    lambda m, i: m.resize(i),
    lambda m, i: m.flush(i),
    lambda m, i: m.flush(0, i),
    lambda m, i: m.advise(i),
    lambda m, i: m.advise(Advice.DONTNEED, i),
    lambda m, i: m.advise(Advice.DONTNEED, 0, i),
    lambda m, i: m.protect("r", i),
    lambda m, i: m.protect("rw", 0, i),
    lambda m, i: m.lock(i),
    lambda m, i: m.unlock(0, i),
    lambda m, i: m.resident(i),
    lambda m, i: m.resident(0, i),
    lambda m, i: m.prefault(i),
    lambda m, i: m.prefault(0, i, write=True),
]
REFUSALS = (ValueError, IndexError, TypeError, BufferError, OverflowError, OSError)


@isolated(limit=120)
def test_threads_and_meddling_do_no_harm(tmp_path: Path) -> None:
    """Row 37: `__index__` that closes or resizes in the middle, and threads that do: no crash."""
    deeds: list[Callable[[Any], Any]] = [
        lambda m: m.close(),
        lambda m: m.close("force"),
        lambda m: m.close("detach"),
        lambda m: m.resize(1),
        lambda m: m.resize(100 * PAGE),
        lambda m: m.protect("none"),
        lambda m: os.truncate(m.name, 0) if m.name else None,
    ]
    doors: list[Callable[[], Any]] = [
        lambda: Mapping.open(filled(tmp_path), "rw"),
        lambda: Mapping.open(filled(tmp_path), "rw", max_size=1 << 20),
        lambda: Mapping.anonymous(5 * PAGE, max_size=1 << 20),
        lambda: Mapping(5 * PAGE),
    ]
    for use, deed, door, value in itertools.product(MEDDLED, deeds, doors, (1, 4 * PAGE + 9)):
        m = door()
        meddler = Meddler(lambda m=m, deed=deed: deed(m), value)
        with contextlib.suppress(*REFUSALS):
            use(m, meddler)
        with contextlib.suppress(*REFUSALS):
            m[0]
        m.close("force")
        for file in tmp_path.iterdir():
            file.unlink()

    for door in doors:
        shake(door())
    keep_content(filled(tmp_path))


def keep_content(where: Path) -> None:
    """What threads read is what was there, while others make the mapping longer and shorter."""
    size = 4 << 20
    ended = threading.Event()

    def run(job: Callable[[], Any]) -> None:
        while not ended.is_set():
            with contextlib.suppress(BufferError):
                job()

    def check(m: Any) -> None:
        assert m[:size].count(0) == 0
        assert m.find(b"\0", 0, size) == -1
        with memoryview(m) as view:
            assert view[5] == view[size - 1] == 1

    def append(m: Any) -> None:
        with where.open("ab") as file:
            file.write(b"\1" * 1000)
        m.refresh()

    changes: list[Callable[[Any], Any]] = [
        lambda m: m.resize(size + PAGE * (1 + os.urandom(1)[0] % 9)),
        append,
    ]
    for change, options in itertools.product(changes, ({}, {"max_size": 64 << 20})):
        where.write_bytes(b"\1" * size)
        ended.clear()
        with Mapping.open(where, "rw", **options) as m:
            work = [lambda m=m: check(m), lambda m=m: check(m), lambda m=m, c=change: c(m)]
            outcomes = [in_thread(lambda job=job: run(job)) for job in work]
            ended.wait(1)
            ended.set()
            for outcome in outcomes:
                outcome()


def shake(m: Any) -> None:
    """Threads use the mapping all at once, until it is closed under them."""
    ended = threading.Event()
    work: list[Callable[[], Any]] = [
        lambda: m[:],
        lambda: m.find(b"not there", 0),
        lambda: m.__setitem__(slice(0, 1), b"x"),
        lambda: m.read(1000) or m.seek(0),
        lambda: m.write(b"y" * 100),
        lambda: bytes(memoryview(m)),
        lambda: m.resize(PAGE * (1 + os.urandom(1)[0] % 9)),
        lambda: m.refresh(),
        lambda: m.resident(),
        lambda: m.advise(Advice.DONTNEED),
        lambda: len(list(m)),
    ]

    def run(job: Callable[[], Any]) -> None:
        while not ended.is_set():
            with contextlib.suppress(*REFUSALS):
                job()

    outcomes = [in_thread(lambda job=job: run(job)) for job in work]
    ended.wait(0.5)
    m.close("force")
    ended.wait(0.05)
    ended.set()
    for outcome in outcomes:
        outcome()
    assert m.closed


def test_mappings_have_names(tmp_path: Path) -> None:
    """Row 38: /proc/self/maps shows what is what."""
    with Mapping(PAGE, name="a-name-of-mine") as m:
        assert "/memfd:a-name-of-mine" in maps_line(m.address)
    with Mapping(PAGE) as m:
        assert "/memfd:shmipc" in maps_line(m.address)
    where = filled(tmp_path)
    for path in (where, str(where), os.fsencode(where)):
        with Mapping.open(path, offset=4097) as m:
            assert str(where) in maps_line(m.address)
            assert m.name == str(where)
    with Mapping.anonymous(PAGE, shared=False) as m:
        shown = maps_line(m.address)
        assert len(shown.split()) == 5 or "shmipc" in shown  # if the kernel has such names


@isolated()
def test_secrets_stay_secret() -> None:
    """Row 39: memory is kept out of core dumps, or out of everybody's sight but ours."""
    with Mapping.anonymous(PAGE) as m:
        m.advise(Advice.DONTDUMP)
        assert "dd" in smaps(m.address)["VmFlags"].split()
        m.advise(Advice.DODUMP)
        assert "dd" not in smaps(m.address)["VmFlags"].split()

    try:
        m = Mapping.anonymous(5000, secret=True)
    except OSError as error:
        assert error.errno in (errno.ENOSYS, errno.EPERM, errno.ENOMEM, errno.EAGAIN), error
        assert "secret" in str(error)
        pytest.skip(f"no secret memory here: {error}")
    with m:
        m[:7] = b"hidden!"
        m.write(b"H")
        assert (m[:7], m.find(b"dd"), len(m), m[5:].count(0)) == (b"Hidden!", 2, 5000, 4993)
        assert bytes(memoryview(m)[:7]) == b"Hidden!"
        with open("/proc/self/mem", "rb", buffering=0) as memory, pytest.raises(OSError):
            memory.seek(m.address)
            memory.read(7)
        with pytest.raises(TypeError):
            reduction.ForkingPickler.dumps(m)
    with pytest.raises(ClosedError):
        m[0]


def test_constants_come_from_the_running_system() -> None:
    """Row 40: they are what the system's own headers say."""
    for constant in (name for name in dir(fcntl) if name.startswith("F_SEAL_")):
        assert Seal[constant.removeprefix("F_SEAL_")] == getattr(fcntl, constant)
    assert {"SEAL", "SHRINK", "GROW", "WRITE", "FUTURE_WRITE", "EXEC"} <= set(Seal.__members__)
    system = {name: getattr(mmap, name) for name in dir(mmap) if name.startswith("MADV_")}
    for constant, value in system.items():
        assert Advice[constant.removeprefix("MADV_")] == value
    assert len({int(advice) for advice in Advice}) == len(list(Advice))
    with Mapping.anonymous(PAGE, shared=False) as m:
        for advice in Advice:
            if advice.name in ("HWPOISON", "SOFT_OFFLINE"):  # break memory for good
                continue
            with contextlib.suppress(OSError):  # EINVAL: not for memory of this kind
                m.advise(advice)
