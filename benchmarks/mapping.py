"""How fast is a file read through a mapping: 64 bytes at random places, and end to end?

One process reads one file, in every way that there is, with all of it in the page cache.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import operator
import os
import random
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, NamedTuple

from rich.console import Console

from benchmarks.harness import Case, Question, answer, ask, parser
from benchmarks.report import Bar, Column, Results, Unit

RECORD = 64
CHUNK = 64 * 1024

LAST = b"\n"
"""The last byte of the file, and nowhere else in it: whoever looks for it has to read all.

The search is a memchr, faster than any way of getting the bytes. Counting them takes longer than to
get them, and would make all ways look alike.
"""

SEED = 20


class Scale(NamedTuple):
    """How long the file is, in words and in bytes, and at how many places it is read."""

    words: str
    size: int
    reads: int


FULL = Scale("1 GiB", 1024**3, 1_000_000)
QUICK = Scale("64 MiB", 64 * 1024**2, 100_000)

# --- the file -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A written file, and the places where all ways read it, in the same order."""

    path: Path
    size: int
    offsets: list[int]

    @property
    def chunks(self) -> range:
        """Where the chunks of a scan begin."""
        return range(0, self.size, CHUNK)

    def at_last_offset(self, length: int) -> bytes:
        """Return what the last of the reads must have given."""
        with self.path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, self.offsets[-1])


@contextmanager
def written(scale: Scale, directory: Path | None) -> Iterator[File]:
    """Write a file of random bytes, not a sparse one, and remove it at the end.

    It is written through to the disk, so that no write-back runs beside the measurements.
    """
    dice = random.Random(SEED)
    offsets = [dice.randrange(scale.size - RECORD) for _ in range(scale.reads)]
    with tempfile.TemporaryDirectory(prefix="bench", dir=directory) as parent:
        path = Path(parent, "file")
        with path.open("wb") as file:
            for _ in range(scale.size // CHUNK):
                file.write(os.urandom(CHUNK).replace(LAST, b" "))
            file.seek(-len(LAST), os.SEEK_CUR)
            file.write(LAST)
            file.flush()
            os.fsync(file.fileno())
        yield File(path, scale.size, offsets)


# --- the ways to read it --------------------------------------------------------------------------


class Way(ABC):
    """One way to read a file: three loops that differ in the call only, with its name bound before.

    The first two return the last of what they read, the scan how often it met LAST.
    """

    name: ClassVar[str]
    guarded: ClassVar[bool] = False
    """Whether shmipc's handler for faults is there meanwhile."""

    @abstractmethod
    def __init__(self, path: Path) -> None:
        """Open the file."""

    @abstractmethod
    def records(self, offsets: Sequence[int]) -> bytes:
        """Read RECORD bytes at each offset."""

    @abstractmethod
    def single(self, offsets: Sequence[int]) -> int:
        """Read one byte, as a number, at each offset."""

    @abstractmethod
    def scan(self, chunks: Iterable[int]) -> int:
        """Read CHUNK bytes at each offset, which follow one another, and look at every byte."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


class Subscripted(Way):
    """What is read by subscripts."""

    memory: Any

    def records(self, offsets: Sequence[int]) -> bytes:
        memory, record = self.memory, b""
        for i in offsets:
            record = memory[i : i + RECORD]
        return record

    def single(self, offsets: Sequence[int]) -> int:
        memory, value = self.memory, 0
        for i in offsets:
            value = memory[i]
        return value

    def scan(self, chunks: Iterable[int]) -> int:
        memory, found = self.memory, 0
        for i in chunks:
            found += LAST in memory[i : i + CHUNK]
        return found

    def close(self) -> None:
        self.memory.close()


class Mmap(Subscripted):
    """The standard library's, which dies of SIGBUS when the file is cut off."""

    name = "mmap.mmap"

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Mapping(Subscripted):
    """Copies made by the kernel, which no fault can harm."""

    name = "shmipc.Mapping"

    def __init__(self, path: Path) -> None:
        self.memory = import_module("shmipc").Mapping.open(path)


class GuardedMapping(Mapping):
    """Direct copies, because the handler sees to faults."""

    name = "shmipc.Mapping, guarded"
    guarded = True


class View(Way):
    """A memoryview of the mapping. What it gives are views again, so they are made bytes."""

    name = "shmipc.Mapping, view"

    def __init__(self, path: Path) -> None:
        self.mapping = import_module("shmipc").Mapping.open(path)
        self.view = memoryview(self.mapping)

    def records(self, offsets: Sequence[int]) -> bytes:
        view, record = self.view, b""
        for i in offsets:
            record = bytes(view[i : i + RECORD])
        return record

    def single(self, offsets: Sequence[int]) -> int:
        view, value = self.view, 0
        for i in offsets:
            value = view[i]
        return value

    def scan(self, chunks: Iterable[int]) -> int:
        view, found = self.view, 0
        for i in chunks:
            found += LAST in bytes(view[i : i + CHUNK])
        return found

    def close(self) -> None:
        self.view.release()
        self.mapping.close()


class Reader(Way):
    """The one that is for reading, from any number of threads."""

    name = "shmipc.Reader"

    def __init__(self, path: Path) -> None:
        self.reader = import_module("shmipc").Reader(path)

    def records(self, offsets: Sequence[int]) -> bytes:
        read_at, record = self.reader.read_at, b""
        for i in offsets:
            record = read_at(RECORD, i)
        return record

    def single(self, offsets: Sequence[int]) -> int:
        at, value = self.reader.at, 0
        for i in offsets:
            value = at(i)
        return value

    def scan(self, chunks: Iterable[int]) -> int:
        read_at, found = self.reader.read_at, 0
        for i in chunks:
            found += LAST in read_at(CHUNK, i)
        return found

    def close(self) -> None:
        self.reader.close()


class GuardedReader(Reader):
    """Direct copies, because the handler sees to faults."""

    name = "shmipc.Reader, guarded"
    guarded = True


class Pread(Way):
    """One system call a read."""

    name = "os.pread"

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def records(self, offsets: Sequence[int]) -> bytes:
        pread, fd, record = os.pread, self.fd, b""
        for i in offsets:
            record = pread(fd, RECORD, i)
        return record

    def single(self, offsets: Sequence[int]) -> int:
        pread, fd, value = os.pread, self.fd, 0
        for i in offsets:
            value = pread(fd, 1, i)[0]
        return value

    def scan(self, chunks: Iterable[int]) -> int:
        pread, fd, found = os.pread, self.fd, 0
        for i in chunks:
            found += LAST in pread(fd, CHUNK, i)
        return found

    def close(self) -> None:
        os.close(self.fd)


class SeekAndRead(Way):
    """What most programs do: a buffered file. A scan does not need the seeks, but for the first."""

    name = "seek and read"

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")

    def records(self, offsets: Sequence[int]) -> bytes:
        seek, read, record = self.file.seek, self.file.read, b""
        for i in offsets:
            seek(i)
            record = read(RECORD)
        return record

    def single(self, offsets: Sequence[int]) -> int:
        seek, read, value = self.file.seek, self.file.read, 0
        for i in offsets:
            seek(i)
            value = read(1)[0]
        return value

    def scan(self, chunks: Iterable[int]) -> int:
        read, found = self.file.read, 0
        self.file.seek(0)
        for _ in chunks:
            found += LAST in read(CHUNK)
        return found

    def close(self) -> None:
        self.file.close()


WAYS = (View, Mapping, GuardedMapping, Reader, GuardedReader, Mmap, Pread, SeekAndRead)

# --- the measurements -----------------------------------------------------------------------------


@contextmanager
def guarding() -> Iterator[None]:
    """Have the handler for faults, which is the whole process's, for as long and no longer."""
    shmipc = import_module("shmipc")
    shmipc.guard_faults()
    try:
        yield
    finally:
        shmipc.unguard_faults()


@contextmanager
def warmed(file: File, kind: type[Way]) -> Iterator[Way]:
    """Open the file that way and scan it once: page cache and page tables are warm then.

    The scan also pushes what was read before out of the processor's caches.
    """
    with guarding() if kind.guarded else nullcontext(), closing(kind(file.path)) as way:
        _check(way.scan(file.chunks), 1)
        yield way


def time_records(file: File, kind: type[Way], _seconds: float) -> tuple[float]:
    """Return the nanoseconds of one read of RECORD bytes."""
    with warmed(file, kind) as way:
        took, last = _timed(partial(way.records, file.offsets))
    _check(last, file.at_last_offset(RECORD))
    return (took / len(file.offsets) * 1e9,)


def time_single(file: File, kind: type[Way], _seconds: float) -> tuple[float]:
    """Return the nanoseconds of one read of a byte."""
    with warmed(file, kind) as way:
        took, last = _timed(partial(way.single, file.offsets))
    _check(last, file.at_last_offset(1)[0])
    return (took / len(file.offsets) * 1e9,)


def time_scan(file: File, kind: type[Way], _seconds: float) -> tuple[float]:
    """Return the gigabytes per second of a scan."""
    with warmed(file, kind) as way:
        took, found = _timed(partial(way.scan, file.chunks))
    _check(found, 1)
    return (file.size / took / 1e9,)


def _timed(loop: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that it took, with the garbage collector off, and what it returned."""
    gc.collect()
    gc.disable()
    try:
        start = perf_counter()
        result = loop()
        return perf_counter() - start, result
    finally:
        gc.enable()


def _check(read: Any, written: Any) -> None:
    """Raise ValueError unless what was read is what is there: a fast wrong answer is no answer."""
    if read != written:
        raise ValueError(f"there is {written!r}, and {read!r} was read")


# --- the question ---------------------------------------------------------------------------------

RECORDS = Column(f"{RECORD} B", Unit.NANOSECONDS)
SINGLE = Column("1 B", Unit.NANOSECONDS)
SCAN = Column("scan", Unit.GIGABYTES)

PANELS = {
    RECORDS: f"{RECORD} bytes at random places, ns per read",
    SCAN: f"End to end, {CHUNK // 1024} KiB at a time, GB/s",
}


BARS = (
    Bar(
        "A guarded slice takes {} times mmap.mmap's time",
        value=GuardedMapping.name,
        base=Mmap.name,
        column=RECORDS,
        holds=operator.le,
        limit=1.3,
    ),
    Bar(
        "A guarded m[i] takes {} times mmap.mmap's time",
        value=GuardedMapping.name,
        base=Mmap.name,
        column=SINGLE,
        holds=operator.le,
        limit=1.3,
    ),
    Bar(
        "Reader.read_at is {} times as fast as seek and read",
        value=SeekAndRead.name,
        base=Reader.name,
        column=RECORDS,
        holds=operator.ge,
        limit=3,
    ),
    Bar(
        "A guarded read_at is {} times as fast as seek and read",
        value=SeekAndRead.name,
        base=GuardedReader.name,
        column=RECORDS,
        holds=operator.ge,
        limit=3,
    ),
)


@dataclass(frozen=True)
class Reading:
    """Writes the file, in the directory or else where temporary files go, and asks about it."""

    directory: Path | None = None

    def ask(self, options: argparse.Namespace, console: Console) -> Results:
        """Measure every way."""
        scale = QUICK if options.quick else FULL
        with written(scale, self.directory) as file:
            return ask(_question(file, scale.words).tuned(options), console)


def _question(file: File, size: str) -> Question:
    return Question(
        title=f"Reading a file of {size}, all of it in the page cache",
        channels=WAYS,
        cases=(
            Case((RECORDS,), partial(time_records, file)),
            Case((SINGLE,), partial(time_single, file)),
            Case((SCAN,), partial(time_scan, file)),
        ),
        rounds=7,
        standard=Mmap.name,
        bars=BARS,
    )


QUESTION = Reading()


def main() -> None:
    """Ask as the command line says, and draw the picture if one is wanted."""
    options = parser()
    options.add_argument("--plot", type=Path, metavar="FILE", help="draw it there (.svg or .png)")
    options.add_argument("--directory", type=Path, help="where the file is written and removed")
    chosen = options.parse_args()
    if chosen.plot:
        from benchmarks import plots  # now: without matplotlib nothing needs to be measured
    (results,) = answer([Reading(chosen.directory)], chosen)
    if chosen.plot:
        plots.draw(results, PANELS, chosen.plot)


if __name__ == "__main__":
    main()
