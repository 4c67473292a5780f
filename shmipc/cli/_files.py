"""The demo's work: read files, hash them, count their words, and compare what came out."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shmipc.cli._errors import BadInput

LARGEST = 256 * 1024 * 1024
"""Bytes: a larger file is left out, as each is one message and stands in memory as a whole."""


@dataclass(frozen=True, slots=True)
class Source:
    """A regular file as it was when it was listed."""

    path: str
    """Relative to the listing's root."""
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files to work on."""

    root: Path
    sources: list[Source]
    left_out: int = 0
    """Folders that cannot be listed, entries that cannot be looked at, and files too large."""

    @property
    def largest(self) -> int:
        """The size of the largest file, in bytes."""
        return max(source.size for source in self.sources)


@dataclass(frozen=True, slots=True)
class Result:
    """What was found in one file."""

    path: str
    digest: str | None
    """SHA-256 in hexadecimal; None for a file that could not be read."""
    words: int
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A file whose result is not what the sequential run found."""

    path: str
    reason: str

    def __str__(self) -> str:
        # repr, because a file name may hold bytes that are no text.
        return f"{self.path!r} {self.reason}"


def list_files(path: str, *, ignore: Collection[str] = ()) -> Listing:
    """List the regular files under `path`, or `path` itself if it is one.

    Symbolic links below `path` are not followed, and folders named in `ignore` are passed over.
    A path that is missing, of another kind, or without any regular file is `BadInput`.
    """
    if not path:
        raise BadInput("PATH is empty")
    where = Path(path)
    try:
        status = where.stat()
    except OSError as error:
        raise BadInput(f"{path!r}: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        return _list_folder(where, ignore)
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{path!r}: neither a directory nor a regular file")
    if status.st_size > LARGEST:
        raise BadInput(f"{path!r}: expected at most {LARGEST:,} bytes, found {status.st_size:,}")
    return Listing(where.parent, [Source(where.name, status.st_size)])


def _list_folder(root: Path, ignore: Collection[str]) -> Listing:
    left_out: list[object] = []
    sources = sorted(_regular_files(root, ignore, left_out.append), key=lambda each: each.path)
    if not sources:
        raise BadInput(f"{str(root)!r}: no regular file under it that can be taken")
    return Listing(root, sources, len(left_out))


def _regular_files(
    root: Path, ignore: Collection[str], on_left_out: Callable[[object], object]
) -> Iterator[Source]:
    for folder, subfolders, names in os.walk(root, onerror=on_left_out):
        subfolders[:] = [name for name in subfolders if name not in ignore]
        for path in (Path(folder, name) for name in names):
            try:
                status = path.lstat()
            except OSError as error:
                on_left_out(error)
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            if status.st_size > LARGEST:
                on_left_out(path)
            else:
                yield Source(str(path.relative_to(root)), status.st_size)


def read(root: Path, source: Source) -> bytes | None:
    """The contents of a file, or None if it cannot be read.

    A file that has grown since it was listed is read up to its size of then, so that a log that is
    being written does not look like a difference, and no message is larger than was planned.
    """
    try:
        with (root / source.path).open("rb") as file:
            return file.read(source.size)
    except OSError:
        return None


def examine(path: str, contents: bytes | None) -> Result:
    """Hash `contents` and count the words in it."""
    if contents is None:
        return Result(path, None, 0, 0)
    digest = hashlib.sha256(contents).hexdigest()
    return Result(path, digest, len(contents.split()), len(contents))


def read_all(listing: Listing, on_progress: Callable[[int], object]) -> None:
    """Read every file once, so that the system has it in memory when the time is taken."""
    for done, source in enumerate(listing.sources, start=1):
        read(listing.root, source)
        on_progress(done)


def examine_all(listing: Listing, on_progress: Callable[[int], object]) -> list[Result]:
    """Examine every file of `listing` in this process; `on_progress` is told how many are done."""
    results = []
    for source in listing.sources:
        results.append(examine(source.path, read(listing.root, source)))
        on_progress(len(results))
    return results


def differences(expected: Iterable[Result], received: Iterable[Result]) -> list[Difference]:
    """Where `received`, in any order, is not exactly `expected`: each result once, and the same."""
    wanted = {result.path: result for result in expected}
    times = Counter[str]()
    found = []
    for result in received:
        times[result.path] += 1
        if result != wanted.get(result.path):
            found.append(Difference(result.path, _deviation(wanted.get(result.path), result)))
    for path in wanted.keys() | times.keys():
        if times[path] != 1:
            found.append(Difference(path, f"came {times[path]} times"))
    return sorted(found, key=lambda difference: difference.path)


def _deviation(wanted: Result | None, result: Result) -> str:
    if wanted is None:
        return "was never sent"
    return f"gave {_summary(result)} instead of {_summary(wanted)}"


def _summary(result: Result) -> str:
    if result.digest is None:
        return "nothing readable"
    return f"{result.words} words in {result.size} bytes with digest {result.digest[:12]}"
