"""What is behind a mapping: a file that stays open for it, and what its system says about it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import weakref
from collections.abc import Iterator
from enum import IntFlag
from typing import IO, Any

from shmipc._native import binding
from shmipc.memory import huge_page_size

__all__ = [
    "Backing",
    "File",
    "Seal",
    "add_seals",
    "cannot_shrink",
    "check_file",
    "link_of",
    "opened",
    "page_of",
    "reads_alike",
    "seals_of",
    "share_backing",
]

File = str | bytes | os.PathLike[Any] | int | IO[Any]


class Seal(IntFlag):
    """What can no longer be done to a memfd, by anybody: see fcntl(2), F_ADD_SEALS."""

    SEAL = 1
    SHRINK = 2
    GROW = 4
    WRITE = 8
    FUTURE_WRITE = 16
    EXEC = 32


class Backing:
    """A file that is mapped: a descriptor, which it owns if it is told so, and a name to show."""

    __slots__ = ("__weakref__", "fd", "name")

    def __init__(self, fd: int, name: str | None, *, owned: bool = False) -> None:
        self.fd = fd
        self.name = name
        if owned:
            # Not by __del__, in which a weak reference still finds what is about to be closed.
            weakref.finalize(self, os.close, fd).atexit = False

    def size(self) -> int:
        return os.fstat(self.fd).st_size


_backings: weakref.WeakValueDictionary[tuple[Any, ...], Backing] = weakref.WeakValueDictionary()


def share_backing(fd: int, name: str | None, writable: bool) -> Backing:
    """The one that this process has for the file already, so that ten thousand mappings of it hold
    one descriptor; or a duplicate of ``fd``, which stays the caller's."""
    found = os.fstat(fd)
    key = (os.getpid(), found.st_dev, found.st_ino, writable, name)
    known = _backings.get(key)
    if known is None:
        known = _backings[key] = Backing(os.dup(fd), name, owned=True)
    return known


@contextlib.contextmanager
def opened(file: File, writable: bool) -> Iterator[tuple[int, str | None]]:
    """A descriptor for ``file`` and the name to show, for the time of the body."""
    if isinstance(file, (str, bytes, os.PathLike)):
        path = os.fspath(file)
        fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            yield fd, os.path.abspath(os.fsdecode(path))
        finally:
            os.close(fd)
        return
    if isinstance(file, bool) or not (isinstance(file, int) or hasattr(file, "fileno")):
        raise TypeError(f"file: expected a path, descriptor or file, found {type(file).__name__}")
    if not isinstance(file, int) and hasattr(file, "flush") and not getattr(file, "closed", False):
        file.flush()
    fd = file if isinstance(file, int) else file.fileno()
    shown = getattr(file, "name", None)
    yield fd, os.path.abspath(shown) if isinstance(shown, str) else link_of(fd)


def link_of(fd: int) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None


def check_file(fd: int, shown: str | None, access: str) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISCHR(found.st_mode):
        raise ValueError(f"{shown}: expected a regular file, found mode {found.st_mode:o}")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    mode = flags & os.O_ACCMODE
    if mode == os.O_WRONLY or flags & getattr(os, "O_PATH", 0):
        message = "expected a descriptor that may be read"
        raise PermissionError(errno.EACCES, message, shown)
    if access in ("rw", "rwx") and mode != os.O_RDWR:
        message = f"access={access!r}: expected a file that may be written, found a read-only one"
        raise PermissionError(errno.EACCES, message, shown)


_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034


def add_seals(fd: int, seals: Seal) -> None:
    fcntl.fcntl(fd, _F_ADD_SEALS, int(seals))


def seals_of(fd: int) -> Seal:
    """None for what is no memfd."""
    try:
        return Seal(fcntl.fcntl(fd, _F_GET_SEALS))
    except OSError:
        return Seal(0)


def page_of(fd: int) -> int:
    """A memfd may be of huge pages."""
    try:
        fcntl.fcntl(fd, _F_GET_SEALS)
    except OSError:
        return binding.page_size()
    size = os.fstatvfs(fd).f_bsize
    return size if size == huge_page_size() else binding.page_size()


def cannot_shrink(behind: Backing, end: int) -> bool:
    return Seal.SHRINK in seals_of(behind.fd) and end <= behind.size()


def reads_alike(fd: int) -> bool:
    """Whether pread shows what the mapping shows: not where it goes past the page cache."""
    is_file = stat.S_ISREG(os.fstat(fd).st_mode)
    return is_file and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
