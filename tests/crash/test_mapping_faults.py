"""Memory that goes away under a mapping: cut off, unreadable, or with no room for it.

Through the object that is an exception; under a view, with the guard, zeros; never a signal.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import mmap
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from helpers import Forked, Gate, in_child, in_thread, run_python
from isolation import SHM, isolated

import shmipc
from shmipc import Mapping, MappingFault, Reader, Segment
from shmipc.mapping import active_bytes, active_count

numpy = pytest.importorskip("numpy")

PAGE = mmap.PAGESIZE
PAGES = 256
SIZE = PAGES * PAGE
CONTENT = (bytes(range(1, 256)) * (SIZE // 255 + 1))[:SIZE]  # no zeros; no two pages alike
ROUNDS = [30, pytest.param(600, marks=pytest.mark.stress)]
LIBC = ctypes.CDLL(None, use_errno=True)


# --- files, and what becomes of them --------------------------------------------------------------


def filled(where: Path) -> Path:
    """A file with CONTENT."""
    path = where / "content"
    path.write_bytes(CONTENT)
    return path


def cut_off(path: Path, rng: random.Random) -> int:
    """Truncates the file on a page, never to nothing; the bytes left."""
    left = rng.randrange(1, PAGES) * PAGE
    os.truncate(path, left)
    return left


def restore(path: Path) -> None:
    """The file has all its CONTENT again, and never zeros meanwhile."""
    with path.open("r+b", buffering=0) as file:
        file.seek(0, os.SEEK_END)
        file.write(CONTENT[file.tell() :])


def is_right(got: bytes, at: int) -> bool:
    return got == CONTENT[at : at + len(got)]


def is_right_or_zero(got: bytes, at: int) -> bool:
    seen = numpy.frombuffer(got, numpy.uint8)
    right = numpy.frombuffer(CONTENT, numpy.uint8)[at : at + len(got)]
    return bool(((seen == right) | (seen == 0)).all())


def memory_lines() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def pieces(mapping: Mapping) -> int:
    """In how many the system keeps it."""
    starts = [
        int(line.partition("-")[0], 16) for line in Path("/proc/self/maps").read_text().splitlines()
    ]
    address = mapping.address
    return sum(address <= start < address + SIZE for start in starts)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def settled() -> tuple[int, int, int]:
    """What a failure may not change."""
    return descriptors(), active_count(), active_bytes()


@contextmanager
def fault_of(path: Path, least: int, most: int = SIZE) -> Any:
    """The body raises a MappingFault for a byte of `path` from `least` on."""
    with pytest.raises(MappingFault) as raised:
        yield
    check_fault(raised.value, path, least, most)


def check_fault(fault: MappingFault, path: Path, least: int, most: int = SIZE) -> None:
    assert isinstance(fault, OSError)
    assert fault.filename == str(path)
    assert least <= fault.offset < most


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """On tmpfs.  Elsewhere the system itself may read zeros while a file is being truncated."""
    folder = Path(tempfile.mkdtemp(dir=SHM))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


# --- (a) truncated under threads, without a guard -------------------------------------------------


Read = Callable[[int, int], bytes]


def read_until(stop: threading.Event, read: Read, path: Path, seed: int) -> Counter[str]:
    """Reads here and there: right bytes, or MappingFault; how often which."""
    rng = random.Random(seed)
    seen = Counter[str]()
    while not stop.is_set():
        at, size = rng.randrange(SIZE), rng.choice((1, 100, PAGE, 3 * PAGE, SIZE // 2))
        try:
            got = read(at, size)
        except MappingFault as fault:
            check_fault(fault, path, PAGE)
            seen["fault"] += 1
        except IndexError:  # refresh() has let go what was cut off
            seen["index"] += 1
        else:
            assert is_right(got, at), f"wrong bytes among {len(got)} at {at}"
            seen["right"] += 1
    return seen


def cut_and_restore(mapping: Mapping, path: Path, rounds: int) -> None:
    """And after each the process is as before."""
    rng = random.Random(rounds)
    for _ in range(rounds):
        left = cut_off(path, rng)
        time.sleep(rng.random() / 300)
        if rng.random() < 0.5:
            assert mapping.refresh()
            assert (len(mapping), mapping[:]) == (left, CONTENT[:left])
        restore(path)
        mapping.refresh()
        assert mapping[:] == CONTENT
        with Mapping.open(path) as another, Reader(path) as reader:
            assert another[:] == reader.read_at(SIZE, 0) == CONTENT


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("access", ["r", "rw", "copy"])
@isolated(limit=120)
def test_a_file_cut_off_under_threads_that_read_is_a_fault_or_right(
    access: Any, rounds: int
) -> None:
    stop = threading.Event()
    with folder_in_memory() as folder:
        path = filled(folder)
        with Mapping.open(path, access) as mapping, Reader(path) as reader:
            ways: list[Read] = [
                lambda at, size: mapping[at : at + size],
                lambda at, size: bytes([mapping[at]]),
                lambda at, size: reader.read_at(size, at),
                lambda at, size: bytes([reader.at(at)]),
            ]
            threads = [
                in_thread(lambda way=way, seed=seed: read_until(stop, way, path, seed))
                for seed, way in enumerate(ways)
            ]
            try:
                cut_and_restore(mapping, path, rounds)
            finally:
                stop.set()
            for number, result in enumerate(threads):
                seen = result()
                assert seen["right"], f"way {number} never read: {seen}"


@isolated()
def test_a_byte_that_is_there_is_read_though_others_are_gone(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with Mapping.open(path) as mapping, Reader(path) as reader:
        os.truncate(path, 5 * PAGE)
        for at in (0, PAGE, 5 * PAGE - 1):
            assert mapping[at] == reader.at(at) == CONTENT[at]
        assert mapping[: 5 * PAGE] == reader.read_at(5 * PAGE, 0) == CONTENT[: 5 * PAGE]
        for at in (5 * PAGE, SIZE - 1):
            with fault_of(path, at, at + 1):
                mapping[at]
            with fault_of(path, at, at + 1):
                reader.at(at)
        with fault_of(path, 5 * PAGE):
            mapping[4 * PAGE : 6 * PAGE]
        with fault_of(path, 5 * PAGE):
            reader.readinto_at(bytearray(2 * PAGE), 4 * PAGE)


# --- (b) with the guard, through bare views -------------------------------------------------------


def look_until(stop: threading.Event, read: Read, seed: int) -> int:
    rng = random.Random(seed)
    looks = 0
    while not stop.is_set():
        at, size = rng.randrange(SIZE), rng.choice((1, 100, PAGE, 3 * PAGE))
        assert is_right_or_zero(read(at, size), at)
        looks += 1
    return looks


def refresh_until_right(mapping: Mapping) -> None:
    """A fault that was under way in another thread may come after a refresh()."""
    while True:
        mapping.refresh()
        try:
            assert mapping[:] == CONTENT
            return
        except MappingFault:
            continue


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("access", ["r", "rw", "copy"])
@isolated(limit=120)
def test_guarded_views_of_a_file_that_is_cut_off_read_right_bytes_or_zeros(
    access: Any, rounds: int, tmp_path: Path
) -> None:
    shmipc.guard_faults()
    path = filled(tmp_path)
    rng = random.Random(rounds)
    stop = threading.Event()
    mapping = Mapping.open(path, access)
    view, array = memoryview(mapping), numpy.frombuffer(mapping, numpy.uint8)
    ways: list[Read] = [
        lambda at, size: bytes(view[at : at + size]),
        lambda at, size: bytes([view[at]]),
        lambda at, size: array[at : at + size].tobytes(),
        lambda at, size: bytes([array[at]]),
    ]
    threads = [
        in_thread(lambda way=way, seed=seed: look_until(stop, way, seed))
        for seed, way in enumerate(ways)
    ]
    lines = 0
    try:
        for turn in range(rounds):
            left = cut_off(path, rng)
            assert (view[left], array[-1]) == (0, 0)
            with fault_of(path, left):
                mapping[0]
            time.sleep(rng.random() / 500)
            restore(path)
            refresh_until_right(mapping)
            assert bytes(view) == array.tobytes() == CONTENT
            if turn == 1:
                lines = memory_lines()
    finally:
        stop.set()
    for result in threads:
        assert result() > 0
    assert memory_lines() <= lines + 3


@isolated()
def test_every_kind_of_call_sees_the_mark_until_refresh(tmp_path: Path) -> None:
    shmipc.guard_faults()
    path = filled(tmp_path)
    with Mapping.open(path, "rw") as mapping, memoryview(mapping) as view:
        os.truncate(path, 3 * PAGE)
        assert view[7 * PAGE + 5] == 0
        for name, call in calls(mapping).items():
            if name in ("resize", "refresh"):
                continue
            with pytest.raises(MappingFault) as raised:
                call()
            assert raised.value.offset == 7 * PAGE + 5, name
        path.write_bytes(CONTENT)
        assert mapping.refresh() is False
        assert mapping[:] == bytes(view) == CONTENT


@isolated()
def test_many_faults_take_one_piece_of_memory(tmp_path: Path) -> None:
    shmipc.guard_faults()
    path = filled(tmp_path)
    with Mapping.open(path) as mapping, memoryview(mapping) as view:
        os.truncate(path, PAGE)
        for at in range(SIZE - 1, PAGE, -PAGE):
            assert view[at] == 0
        restore(path)
        assert mapping.refresh() is False
        assert pieces(mapping) == 1
        os.truncate(path, PAGE)
        for at in range(PAGE, SIZE, PAGE):
            assert view[at] == 0
        restore(path)
        mapping.refresh()
        assert bytes(view) == CONTENT
        assert pieces(mapping) == 1


@pytest.mark.parametrize("rounds", [300, pytest.param(6000, marks=pytest.mark.stress)])
@isolated(limit=120)
def test_refresh_lets_go_what_guarded_threads_are_reading(rounds: int, tmp_path: Path) -> None:
    """A fault that meets a refresh() half way is no signal either."""
    shmipc.guard_faults()
    path = filled(tmp_path)
    stop = threading.Event()
    rng = random.Random(rounds)

    def read(at: int, size: int) -> bytes:
        return mapping[at : at + size]

    with Mapping.open(path) as mapping:
        threads = [
            in_thread(lambda seed=seed: read_until(stop, read, path, seed)) for seed in range(4)
        ]
        try:
            for _ in range(rounds):
                left = cut_off(path, rng)
                mapping.refresh()
                assert len(mapping) == left
                restore(path)
                mapping.refresh()
        finally:
            stop.set()
        for result in threads:
            assert result()


@isolated()
def test_a_guarded_writer_keeps_its_process_and_learns_of_its_loss(tmp_path: Path) -> None:
    shmipc.guard_faults()
    path = filled(tmp_path)
    with Mapping.open(path, "rw") as mapping, memoryview(mapping) as view:
        os.truncate(path, 2 * PAGE)
        view[SIZE - 1] = 1
        with fault_of(path, 2 * PAGE):
            mapping.flush()
        assert path.stat().st_size == 2 * PAGE
        restore(path)
        mapping.refresh()
        view[SIZE - 1] = 2
        assert path.read_bytes() == CONTENT[:-1] + b"\2"


def lost_calls(mapping: Mapping) -> dict[str, Callable[[], Any]]:
    """Each touches the last page."""
    last = SIZE - PAGE
    return {
        "index": lambda: mapping[last],
        "slice": lambda: mapping[last:],
        "set": lambda: mapping.__setitem__(last, 1),
        "set slice": lambda: mapping.__setitem__(slice(last, None), bytes(PAGE)),
        "find": lambda: mapping.find(b"\0", last),
    }


@pytest.mark.parametrize("how", ["in a child", "unguarded"])
@isolated()
def test_the_mark_holds_where_the_guard_does_not(how: str, tmp_path: Path) -> None:
    """Zeros are in the mapping: bytes written to them would be lost without a word."""
    shmipc.guard_faults()
    path = filled(tmp_path)

    def use() -> dict[str, str]:
        seen = {}
        for name, call in lost_calls(mapping).items():
            try:
                seen[name] = repr(call())
            except MappingFault:
                continue
        return seen

    with Mapping.open(path, "rw") as mapping, memoryview(mapping) as view:
        os.truncate(path, PAGE)
        assert view[SIZE - 1] == 0
        if how == "in a child":
            assert in_child(use) == {}
        else:
            shmipc.unguard_faults()
            assert use() == {}
            restore(path)
            assert use() == {}  # until refresh()
            mapping.refresh()
            assert mapping[:] == CONTENT


# --- (c) a full file system -----------------------------------------------------------------------


CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def mount(source: str, where: Path, kind: str | None, flags: int = 0, options: str = "") -> None:
    text = [None if t is None else t.encode() for t in (source, str(where), kind, options)]
    if LIBC.mount(text[0], text[1], text[2], ctypes.c_ulong(flags), text[3]) != 0:
        number = ctypes.get_errno()
        pytest.skip(f"mounting {kind} here: {os.strerror(number)}")


def enter_private_mounts() -> None:
    """What this process mounts nobody else sees, and it goes with the process."""
    uid, gid = os.getuid(), os.getgid()
    if LIBC.unshare(CLONE_NEWNS) != 0:
        if LIBC.unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0:
            pytest.skip(f"a mount namespace here: {os.strerror(ctypes.get_errno())}")
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        except OSError as error:
            pytest.skip(f"a user namespace here: {error}")
    mount("none", Path("/"), None, MS_REC | MS_PRIVATE)


def small_tmpfs(where: Path, size: int) -> Path:
    enter_private_mounts()
    folder = where / "small"
    folder.mkdir()
    mount("tmpfs", folder, "tmpfs", options=f"size={size}")
    return folder


ROOM = 16 * PAGE


def sparse(folder: Path) -> Path:
    path = folder / "sparse"
    path.touch()
    os.truncate(path, SIZE)
    return path


def fill_up(folder: Path) -> Path:
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(PAGE)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return path


WRITES: dict[str, Callable[[Mapping, int], Any]] = {
    "index": lambda m, at: m.__setitem__(at, 1),
    "slice": lambda m, at: m.__setitem__(slice(at, at + PAGE), b"\1" * PAGE),
    "steps": lambda m, at: m.__setitem__(slice(at, at + PAGE, 2), b"\1" * (PAGE // 2)),
    "write": lambda m, at: (m.seek(at), m.write(b"\1" * PAGE)),
    "write_byte": lambda m, at: (m.seek(at), m.write_byte(1)),
    "move": lambda m, at: m.move(at, 0, PAGE),
    "prefault": lambda m, at: m.prefault(at, PAGE, write=True),
}


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("name", WRITES)
@isolated()
def test_a_write_into_a_hole_of_a_full_file_system_is_a_fault(
    name: str, guard: bool, tmp_path: Path
) -> None:
    if guard:
        shmipc.guard_faults()
    write = WRITES[name]
    folder = small_tmpfs(tmp_path, ROOM)
    path = sparse(folder)
    with Mapping.open(path, "rw") as mapping:
        mapping[0] = 1
        written = 0
        with fault_of(path, PAGE):
            for at in range(PAGE, SIZE, PAGE):
                write(mapping, at)
                written = at
        assert written // PAGE <= ROOM // PAGE
        mapping.refresh()
        assert mapping[0] == 1
        os.truncate(path, PAGE)
        os.truncate(path, SIZE)
        write(mapping, SIZE - PAGE)
        if name != "prefault":
            assert mapping[SIZE - PAGE] == path.read_bytes()[SIZE - PAGE] == 1


@isolated()
def test_guarded_views_of_holes_without_room_swallow_what_is_written(tmp_path: Path) -> None:
    shmipc.guard_faults()
    folder = small_tmpfs(tmp_path, ROOM)
    path = sparse(folder)
    with Mapping.open(path, "rw") as mapping, memoryview(mapping) as view:
        view[0] = 1
        ballast = fill_up(folder)
        view[5 * PAGE] = 1
        view[SIZE - 1] = 1
        with fault_of(path, 5 * PAGE, 5 * PAGE + 1):
            mapping[0]
        array = numpy.frombuffer(view, numpy.uint8)
        array[6 * PAGE] = 1
        del array
        ballast.unlink()
        mapping.refresh()
        assert (view[0], view[5 * PAGE], view[SIZE - 1]) == (1, 0, 0)
        view[5 * PAGE] = 1
        assert path.read_bytes()[5 * PAGE] == 1


@isolated()
def test_growing_in_a_full_file_system_is_an_error_at_once(tmp_path: Path) -> None:
    folder = small_tmpfs(tmp_path, ROOM)
    path = folder / "file"
    path.write_bytes(b"x" * PAGE)
    before = settled()
    with Mapping.open(path, "rw") as mapping:
        assert refusal(lambda: mapping.resize(SIZE))[0] == errno.ENOSPC
        assert (len(mapping), mapping[:]) == (PAGE, b"x" * PAGE)
    longer = refusal(lambda: Mapping.open(path, "rw", length=SIZE, extend=True))
    assert longer[0] == errno.ENOSPC
    assert refusal(lambda: Segment.create(folder / "segment", SIZE))[0] == errno.ENOSPC
    assert (os.listdir(folder), path.stat().st_size) == (["file"], PAGE)
    assert settled() == before


# --- (d) too much memory --------------------------------------------------------------------------


TOO_MUCH: dict[str, tuple[Callable[[], Any], int]] = {
    "memfd": (lambda: Mapping(1 << 50), errno.ENOSPC),
    "most": (lambda: Mapping((1 << 62) - 1), errno.ENOSPC),
    "anonymous": (lambda: Mapping.anonymous(1 << 50), errno.ENOSPC),
    "private": (lambda: Mapping.anonymous(1 << 50, shared=False), errno.ENOSPC),
    "reserve": (lambda: Mapping(PAGE, max_size=1 << 60), errno.ENOMEM),
    "anonymous reserve": (lambda: Mapping.anonymous(PAGE, max_size=1 << 60), errno.ENOMEM),
}


def refusal(call: Callable[[], Any]) -> tuple[int | None, str]:
    """The number and the text of its OSError, which is gone afterwards."""
    try:
        call()
    except OSError as error:
        return error.errno, str(error)
    raise AssertionError("expected an OSError")


@pytest.mark.parametrize("name", TOO_MUCH)
@isolated(limit=20)
def test_too_much_memory_is_an_error_at_once_and_leaves_nothing(name: str) -> None:
    make, expected = TOO_MUCH[name]
    gc.disable()  # nothing waits for it
    before, lines = settled(), memory_lines()
    for _ in range(20):
        number, text = refusal(make)
        assert number == expected
        assert number != errno.ENOSPC or "shm-size" in text
    assert settled() == before
    assert memory_lines() <= lines + 2


@isolated(limit=20)
def test_growing_by_too_much_leaves_the_mapping_as_it_was() -> None:
    mapping = Mapping(PAGE, max_size=1 << 45)
    mapping[:] = b"x" * PAGE
    before = settled()
    assert refusal(lambda: mapping.resize(1 << 45))[0] == errno.ENOSPC
    assert settled() == before
    assert (len(mapping), mapping.size(), mapping[:]) == (PAGE, PAGE, b"x" * PAGE)
    mapping.close()


# --- (e) a disk that breaks -----------------------------------------------------------------------


class Disk:
    """A file system on a file; `break_down` leaves nothing of it that can be read."""

    def __init__(self, where: Path) -> None:
        self.image, self.folder = where / "image", where / "disk"
        self.folder.mkdir()
        self.image.touch()
        os.truncate(self.image, 8 << 20)
        self._run("mkfs.ext2", "-q", "-F", str(self.image))
        enter_private_mounts()
        self.device = self._run("losetup", "--find", "--show", str(self.image)).strip()
        try:
            mount(self.device, self.folder, "ext2")
        finally:
            self._run("losetup", "--detach", self.device)  # when it is mounted no more

    @staticmethod
    def _run(*command: str) -> str:
        try:
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip(f"{command[0]} is not there")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{command[0]} here: {error.stderr.strip()}")
        return done.stdout

    def break_down(self, path: Path) -> None:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.truncate(self.image, 64 << 10)
        self._run("losetup", "--set-capacity", self.device)


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("access", ["r", "rw", "copy"])
@isolated()
def test_a_disk_that_breaks_is_a_fault(access: Any, guard: bool, tmp_path: Path) -> None:
    if guard:
        shmipc.guard_faults()
    disk = Disk(tmp_path)
    path = filled(disk.folder)
    with Mapping.open(path, access) as mapping, Reader(path) as reader:
        disk.break_down(path)
        with fault_of(path, 0):
            reader.read_at(SIZE, 0)
        for name, call in lost_calls(mapping).items():
            if access != "r" or "set" not in name:
                with fault_of(path, SIZE - PAGE):
                    call()
        with fault_of(path, 0):
            mapping.prefault()
        if not guard:
            return
        mapping.refresh()
        with memoryview(mapping) as view:
            assert bytes(view) == bytes(SIZE)
        with fault_of(path, 0):
            mapping[0]


# --- (f) other handlers, other faults -------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "after", "never"])
@isolated()
def test_the_guard_and_the_fault_handler_of_python_get_along(order: str, tmp_path: Path) -> None:
    path = filled(tmp_path)
    faulthandler.disable()
    if order == "before":
        faulthandler.enable()
    shmipc.guard_faults()
    with Mapping.open(path) as mapping, memoryview(mapping) as view:
        if order == "after":
            faulthandler.enable()
        for _ in range(3):
            os.truncate(path, PAGE)
            assert view[SIZE - 1] == 0
            with fault_of(path, PAGE):
                mapping[0]
            restore(path)
            mapping.refresh()
            assert bytes(view) == CONTENT


@isolated()
def test_guard_faults_again_comes_over_a_later_handler(tmp_path: Path) -> None:
    path = filled(tmp_path)
    shmipc.guard_faults()
    with Mapping.open(path) as mapping, memoryview(mapping) as view:
        for _ in range(20):
            put_exiting_handler()
            shmipc.guard_faults()
            os.truncate(path, PAGE)
            assert view[SIZE - 1] == 0
            restore(path)
            mapping.refresh()


EXITED = int(signal.SIGBUS)


def put_exiting_handler() -> None:
    """A handler in C that knows nothing of ours, as a worker of a data loader has one: _exit, which
    gets the number of the signal."""
    LIBC.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    LIBC.signal(signal.SIGBUS, ctypes.cast(LIBC._exit, ctypes.c_void_p))


@pytest.mark.parametrize("guard", [False, True])
@isolated()
def test_objects_of_a_worker_with_a_handler_of_its_own_raise_faults(
    guard: bool, tmp_path: Path
) -> None:
    path = filled(tmp_path)
    if guard:
        shmipc.guard_faults()

    def work() -> int:
        put_exiting_handler()
        os.truncate(path, PAGE)
        faults = 0
        for call in [*lost_calls(mapping).values(), lambda: reader.read_at(SIZE, 0)]:
            with fault_of(path, 0):
                call()
            faults += 1
        shmipc.guard_faults()
        with memoryview(mapping) as view:
            assert view[SIZE - 1] == 0
        with fault_of(path, PAGE):
            mapping[0]
        return faults

    with Mapping.open(path, "rw") as mapping, Reader(path) as reader:
        assert in_child(work) == 6


@isolated()
def test_views_stay_guarded_in_a_child_of_fork(tmp_path: Path) -> None:
    path = filled(tmp_path)
    shmipc.guard_faults()

    def look() -> tuple[int, int]:
        os.truncate(path, PAGE)
        return view[0], view[SIZE - 1]

    with Mapping.open(path) as mapping, memoryview(mapping) as view:
        assert in_child(look) == (CONTENT[0], 0)


FOREIGN = """
import faulthandler, mmap, os, shmipc, sys
path, order = sys.argv[1:]
with open(path, "r+b") as file:
    foreign = mmap.mmap(file.fileno(), 0)
with shmipc.Mapping.open(path) as ours:
    if order == "before": faulthandler.enable()
    if order != "unguarded": shmipc.guard_faults()
    if order == "after": faulthandler.enable()
    if order == "taken away": shmipc.unguard_faults()
    os.truncate(path, 0)
    if order not in ("unguarded", "taken away"):
        assert bytes(memoryview(ours)) == bytes(len(ours))
    if order == "twice": shmipc.guard_faults()
    print("still here", flush=True)
    foreign[0]
print("not here")
"""


@pytest.mark.parametrize("order", ["before", "after", "never", "twice", "unguarded", "taken away"])
@isolated()
def test_a_fault_that_is_not_ours_ends_the_process_as_ever(order: str, tmp_path: Path) -> None:
    done = run_python("-c", FOREIGN, str(filled(tmp_path)), order)
    assert done.stdout == "still here\n"
    assert done.returncode == -signal.SIGBUS
    assert ("Fatal Python error: Bus error" in done.stderr) == (order in ("before", "after"))


def run_until_killed(prepare: Callable[[], None]) -> int:
    """Sends SIGBUS to a process that has done `prepare`; how it ended."""
    ready = Gate()

    def wait() -> NoReturn:
        faulthandler.disable()
        prepare()
        ready.open()
        while True:
            time.sleep(60)

    child = Forked(wait)
    ready.wait()
    child.send(signal.SIGBUS)
    _, status = os.waitpid(child.pid, 0)
    child.forget()
    ready.close()
    return os.waitstatus_to_exitcode(status)


@isolated()
def test_a_bus_error_from_another_process_ends_this_one() -> None:
    def guard_again() -> None:
        shmipc.guard_faults()
        shmipc.guard_faults()

    def guard_over_another() -> None:
        put_exiting_handler()
        shmipc.guard_faults()

    assert run_until_killed(shmipc.guard_faults) == -signal.SIGBUS
    assert run_until_killed(guard_again) == -signal.SIGBUS
    assert run_until_killed(guard_over_another) == EXITED


@isolated()
def test_a_handler_in_python_gets_what_is_not_ours(tmp_path: Path) -> None:
    path = filled(tmp_path)
    got: list[int] = []
    old = signal.signal(signal.SIGBUS, lambda number, frame: got.append(number))
    shmipc.guard_faults()
    parent = os.getpid()
    with Mapping.open(path) as mapping, memoryview(mapping) as view:
        os.truncate(path, PAGE)
        assert view[SIZE - 1] == 0
        assert got == []
        in_child(os.kill, parent, signal.SIGBUS)
        assert got == [signal.SIGBUS]
    signal.signal(signal.SIGBUS, old or signal.SIG_DFL)


# --- (g) every method -----------------------------------------------------------------------------


def calls(mapping: Any) -> dict[str, Callable[[], Any]]:
    """Every method that looks at bytes; none finds anything before the end."""
    return {
        **lost_calls(mapping),
        "all": lambda: mapping[:],
        "backwards": lambda: mapping[::-1],
        "steps": lambda: mapping[::PAGE],
        "set steps": lambda: mapping.__setitem__(slice(0, None, PAGE), bytes(PAGES)),
        "find from the start": lambda: mapping.find(b"\0\0", 0),
        "rfind": lambda: mapping.rfind(b"\0\0", 0),
        "in": lambda: b"\0\0" in mapping,
        "int in": lambda: 0 in mapping,
        "iterate": lambda: [byte for byte in mapping if not byte],
        "read": lambda: (mapping.seek(0), mapping.read()),
        "read_byte": lambda: (mapping.seek(-1, 2), mapping.read_byte()),
        "readline": lambda: (mapping.seek(SIZE - 5), mapping.readline()),
        "write": lambda: (mapping.seek(SIZE - PAGE), mapping.write(bytes(PAGE))),
        "write_byte": lambda: (mapping.seek(-1, 2), mapping.write_byte(1)),
        "move from": lambda: mapping.move(0, SIZE - PAGE, PAGE),
        "move to": lambda: mapping.move(SIZE - PAGE, 0, PAGE),
        "move over": lambda: mapping.move(PAGE, 0, SIZE - PAGE),
        "prefault": lambda: mapping.prefault(),
    }


CHANGES = {"set", "set slice", "set steps", "write", "write_byte"}
CHANGES |= {"move from", "move to", "move over"}


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


def outcomes(access: Any, left: int, folder: Path) -> dict[str, Any]:
    """What each method that `access` has gives for a file cut off after `left` bytes."""
    path = filled(folder)
    found = {}
    with Mapping.open(path) as probe:
        names = [name for name in calls(probe) if access != "r" or name not in CHANGES]
    for name in names:
        path.write_bytes(CONTENT)
        with Mapping.open(path, access) as mapping:
            os.truncate(path, left)
            found[name] = outcome(calls(mapping)[name])
    return found


CUTS: Any = [
    pytest.mark.parametrize("guard", [False, True]),
    pytest.mark.parametrize("access", ["r", "rw", "copy"]),
    pytest.mark.parametrize("left", [PAGE, SIZE - PAGE]),
]


def cuts(test: Any) -> Any:
    for mark in CUTS:
        test = mark(test)
    return test


@cuts
@isolated()
def test_every_method_on_what_was_cut_off_is_a_fault(
    left: int, access: Any, guard: bool, tmp_path: Path
) -> None:
    if guard:
        shmipc.guard_faults()
    found = outcomes(access, left, tmp_path)
    assert {n: repr(f)[:80] for n, f in found.items() if not isinstance(f, MappingFault)} == {}
    assert {fault.filename for fault in found.values()} == {str(tmp_path / "content")}


@cuts
@isolated()
def test_the_fault_of_every_method_says_where_the_lost_bytes_are(
    left: int, access: Any, guard: bool, tmp_path: Path
) -> None:
    if guard:
        shmipc.guard_faults()
    found = outcomes(access, left, tmp_path)
    assert {n: f.offset for n, f in found.items() if not left <= f.offset < SIZE} == {}


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("access", ["r", "rw", "copy"])
@isolated()
def test_what_asks_the_system_about_lost_memory_gets_an_answer(
    access: Any, guard: bool, tmp_path: Path
) -> None:
    if guard:
        shmipc.guard_faults()
    path = filled(tmp_path)
    asks: dict[str, Callable[[Mapping], Any]] = {
        "flush": lambda m: m.flush(),
        "advise": lambda m: m.advise(shmipc.mapping.Advice.WILLNEED),
        "lock": lambda m: m.lock(),
        "unlock": lambda m: m.unlock(),
        "resident": lambda m: m.resident(),
        "protect": lambda m: m.protect("copy" if access == "copy" else "r"),
        "size": lambda m: m.size(),
        "repr": repr,
        "view": lambda m: memoryview(m).release(),
        "longer": lambda m: m.resize(SIZE + PAGE),
        "shorter": lambda m: m.resize(PAGE),
        "as long as the rest": lambda m: m.resize(2 * PAGE),
        "refresh": lambda m: m.refresh(),
    }
    for name, ask in asks.items():
        path.write_bytes(CONTENT)
        with Mapping.open(path, access) as mapping:
            os.truncate(path, 2 * PAGE)
            seen = outcome(lambda ask=ask, mapping=mapping: ask(mapping))
            assert not isinstance(seen, Exception) or isinstance(seen, OSError | TypeError), name
            assert outcome(lambda mapping=mapping: mapping[PAGE - 1]) == CONTENT[PAGE - 1], name
            mapping.refresh()
            assert mapping[:PAGE] == CONTENT[:PAGE], name


@isolated()
def test_a_copy_keeps_working_where_its_file_is_left(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with Mapping.open(path, "copy") as mapping:
        mapping[0] = mapping[2 * PAGE] = 0
        os.truncate(path, PAGE)
        assert mapping[0] == 0
        mapping[1] = 0
        with fault_of(path, PAGE):
            mapping[3 * PAGE]
        with fault_of(path, PAGE):
            mapping[3 * PAGE] = 1
        assert path.read_bytes() == CONTENT[:PAGE]


@pytest.mark.parametrize("guard", [False, True])
@isolated()
def test_the_lost_bytes_of_a_segment_are_a_fault(guard: bool, tmp_path: Path) -> None:
    if guard:
        shmipc.guard_faults()
    path = tmp_path / "segment"
    with Segment.create(path, SIZE) as segment:
        segment[:] = CONTENT
        whole = path.stat().st_size
        os.truncate(path, whole - SIZE + PAGE)
        wrong = {}
        for name, call in calls(segment).items():
            seen = outcome(call)
            if name == "int in" and not guard:  # it stands before the cut, too
                continue
            if not isinstance(seen, MappingFault) or seen.filename != str(path):
                wrong[name] = repr(seen)[:80]
        os.truncate(path, whole)
        path.unlink()
    assert wrong == {}
