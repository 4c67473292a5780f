"""Names in the file system: where they lie, whom they may belong to, and how a file gets one.

A file is made without a name and linked when it is whole, so nobody ever sees half of one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from shmipc.errors import LayoutError

__all__ = ["PREFIX", "Draft", "Name", "check_private", "named_in_errors", "path_of"]

Name = str | os.PathLike[str]

PREFIX = "shmipc."
"""What the files of plain names begin with."""


def path_of(name: Name) -> str:
    """Where ``name`` lies: a plain name in the system's shared memory (or ``SHMIPC_DIR``), a path
    where it says."""
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"name: expected str or os.PathLike, found {type(name).__name__}")
    text = os.fspath(name)
    if not isinstance(text, str):
        raise TypeError("name: expected a path of str, found bytes")
    if not text or "\0" in text:
        raise ValueError(f"name: expected at least one character and no NUL, found {text!r}")
    if isinstance(name, str) and "/" not in text:
        return str(Path(os.environ.get("SHMIPC_DIR", "/dev/shm"), PREFIX + text))
    if text.endswith("/"):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), text)
    return str(Path(text).absolute())


@contextlib.contextmanager
def named_in_errors(name: Name) -> Iterator[None]:
    """Operating system errors speak of the name that the caller gave."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a signal handler's, not the system's
            raise
        if error.filename is None or str(error.filename) != os.fspath(name):
            raise type(error)(error.errno, error.strerror or str(error), os.fspath(name)) from None
        raise


class Draft:
    """A file that is no segment yet: nameless, or on file systems that have no such files under a
    temporary name."""

    def __init__(self, path: str, mode: int) -> None:
        folder, self.base = os.path.split(path)
        self.folder = os.open(folder, os.O_DIRECTORY | os.O_CLOEXEC)
        self.temporary: str | None = None
        try:
            self.fd = self._make(mode)
            os.fchmod(self.fd, mode)  # exactly; the umask is for those who did not say
        except BaseException:
            self.discard()
            raise

    def _make(self, mode: int) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(".", os.O_TMPFILE | flags, mode, dir_fd=self.folder)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        self.temporary = f".{PREFIX}{secrets.token_hex(8)}"
        return os.open(self.temporary, os.O_CREAT | os.O_EXCL | flags, mode, dir_fd=self.folder)

    def link(self) -> None:
        """Gives it its name; never replaces one."""
        # With a directory descriptor Python calls linkat(), which can follow /proc's link.
        os.link(f"/proc/self/fd/{self.fd}", self.base, dst_dir_fd=self.folder)

    def discard(self) -> None:
        """Removes what nobody is to see any more; the descriptor is the caller's."""
        if self.temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary, dir_fd=self.folder)
        os.close(self.folder)


def check_private(fd: int, name: str, mode: int) -> None:
    """A foreign segment would feed ``pickle.loads``: only ours, and written only by those whom
    ``mode`` admits."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise LayoutError(f"{name}: expected a regular file, found mode {found.st_mode:o}")
    group_admitted = mode & 0o060 and found.st_gid in {os.getegid(), *os.getgroups()}
    if found.st_uid != os.geteuid() and not group_admitted:
        message = f"expected the owner uid {os.geteuid()}, found uid {found.st_uid}"
        raise PermissionError(errno.EPERM, message, name)
    if found.st_mode & 0o022 & ~mode:
        allowed = stat.S_IMODE(found.st_mode) & ~(0o022 & ~mode)
        message = f"expected a mode like {allowed:04o}, found {stat.S_IMODE(found.st_mode):04o}"
        raise PermissionError(errno.EPERM, message + ", which lets others write", name)
