"""Reading a file at any place, from any number of threads."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, Self

from shmipc._native import binding
from shmipc.backing import File
from shmipc.mapping import Mapping

__all__ = ["Reader"]


class Reader(binding.ReaderCore):
    """A file to be read at any place by any number of threads, with no sharp edge: it never gives a
    view out, an I/O error or a truncated file is `MappingFault`, and ``close()`` waits for those
    who are reading."""

    def __init__(self, file: File, *, offset: int = 0, length: int | None = None) -> None:
        mapping = Mapping.open(file, "r", offset=offset, length=length)
        self.name = mapping.name
        assert mapping.region is not None
        self._bind(mapping.region)

    def close(self) -> None:
        """No read begins any more; waits for those under way."""
        if self.idle is None:
            self.idle = threading.Event()
        if self._shut():
            self.idle.wait()
        self._unbind()

    def raw(self) -> io.RawIOBase:
        """The same as a file, for ``io.BufferedReader`` and for libraries that take files."""
        len(self)  # closed?
        return _RawReader(self)

    def __enter__(self) -> Self:
        len(self)
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class _RawReader(io.RawIOBase):
    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._position = 0
        self.name = reader.name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        count = self._reader.readinto_at(buffer, self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases: dict[int, Callable[[], int]] = {
            io.SEEK_SET: lambda: 0,
            io.SEEK_CUR: lambda: self._position,
            io.SEEK_END: lambda: len(self._reader),
        }
        if whence not in bases:
            raise ValueError(f"whence: expected 0, 1 or 2, found {whence}")
        position = bases[whence]() + offset
        if position < 0:
            raise ValueError(f"seek: expected a position of at least 0, found {position}")
        self._position = position
        return position
