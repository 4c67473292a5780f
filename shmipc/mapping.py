"""Files and memory as bytes: what ``mmap.mmap`` does, without its sharp edges.

`Mapping` maps what is there; `MappedBytes` is what everything with bytes of its own shares, a
`Segment` too.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
import socket
import struct
import threading
from enum import IntEnum
from typing import Any, Literal, NamedTuple, Self

from shmipc._native import binding
from shmipc._native.binding import Region
from shmipc.backing import (
    Backing,
    File,
    Seal,
    add_seals,
    cannot_shrink,
    check_file,
    link_of,
    opened,
    page_of,
    reads_alike,
    seals_of,
    share_backing,
)
from shmipc.descriptors import receive_descriptor, send_descriptor, ticket_for
from shmipc.errors import BrokenError, ClosedError, LayoutError, MappingFault, MappingLimitError
from shmipc.memory import (
    check_room,
    commit_memory,
    huge_page_size,
    mappings_are_used_up,
    memory_limits,
)

__all__ = [
    "GRANULARITY",
    "PAGE_SIZE",
    "Access",
    "Advice",
    "Flush",
    "Mapping",
    "Residency",
    "Seal",
    "active_bytes",
    "active_count",
    "guard_faults",
    "unguard_faults",
]

PAGE_SIZE = binding.page_size()
GRANULARITY = mmap.ALLOCATIONGRANULARITY
"""What the system asks of an offset.  A `Mapping` takes any."""

Access = Literal["r", "rw", "copy", "rx", "rwx", "none"]
HugePages = Literal["try", "require"]

Advice = IntEnum("Advice", binding.advice_numbers(), module=__name__)  # type: ignore[misc]
Advice.__doc__ = "What ``madvise`` of this system takes, without the ``MADV_``."

_DESTROYS = {"DONTNEED", "FREE", "REMOVE", "DONTNEED_LOCKED", "HWPOISON"}


class Flush(IntEnum):
    """How ``flush`` writes: until it is done, started only, or telling other mappings too."""

    SYNC = 4
    ASYNC = 1
    INVALIDATE = 2


class Residency(NamedTuple):
    """What of a range is in memory."""

    pages: list[bool]
    bytes: int
    """Of the resident pages, which are whole."""


_PROTECTIONS: dict[str, int] = {
    "none": 0,
    "r": binding.PROTECT_READ,
    "copy": binding.PROTECT_READ | binding.PROTECT_WRITE,
    "rw": binding.PROTECT_READ | binding.PROTECT_WRITE,
    "rx": binding.PROTECT_READ | binding.PROTECT_EXECUTE,
    "rwx": binding.PROTECT_READ | binding.PROTECT_WRITE | binding.PROTECT_EXECUTE,
}


def active_count() -> int:
    """Mappings that this process has at the moment; closed ones count while views are out."""
    return binding.active_regions()


def active_bytes() -> int:
    """Their bytes, in whole pages."""
    return binding.active_bytes()


def guard_faults() -> None:
    """From now on a bare view survives that the memory under it goes: a SIGBUS puts zeros there, to
    the end of the mapping, and the next call on the `Mapping` raises `MappingFault`.

    The handler is put over those that are there, and passes on what is not a mapping's.  Again does
    no harm, and puts it back on top of one that came later.  In a child of fork views stay guarded.
    """
    binding.guard_faults()


def unguard_faults() -> None:
    """Takes the handler away again; under another one it stays, and passes everything on."""
    binding.unguard_faults()


def _index(name: str, value: object, least: int = 0) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an int, found {type(value).__name__}")
    number = value.__index__()
    if not least <= number < 1 << 62:
        raise ValueError(f"{name}: expected at least {least}, found {number}")
    return int(number)


def _make_region(*arguments: Any, **options: Any) -> Region:
    """The system's refusal with what to do about it."""
    try:
        return Region(*arguments, **options)
    except FileExistsError:
        address = options.get("address", 0)
        message = f"expected free addresses at {address:#x}, found that some are taken"
        raise FileExistsError(errno.EEXIST, message) from None
    except OSError as error:
        raise _explained(error) from None


def _explained(error: OSError) -> OSError:
    """A mapping more, or a part of one with a protection of its own, may be one too many."""
    limit = mappings_are_used_up() if error.errno == errno.ENOMEM else None
    return error if limit is None else MappingLimitError(errno.ENOMEM, limit)


# --- what everything with bytes shares ----------------------------------------------------------


class MappedBytes(binding.MappingCore):
    """Bytes in memory, with the methods of ``mmap.mmap`` and more; offsets and lengths are any."""

    def _range(self, offset: int, length: int | None) -> tuple[Region, int, int]:
        """Checked: the region, and a range of it."""
        start = _index("offset", offset)
        count = None if length is None else _index("length", length)
        region = self._entered()
        if count is None:
            count = max(region.length - start, 0)
        if start + count > region.length:
            raise ValueError(
                f"expected a range within {region.length} bytes, found {start} to {start + count}"
            )
        return region, start, count

    def flush(self, offset: int = 0, length: int | None = None, how: Flush = Flush.SYNC) -> None:
        """Writes what was changed to the file; nothing to do where there is none, or nothing was
        changed.  Closing does not flush: the system writes in its own time."""
        region, start, count = self._range(offset, length)
        if region.file is not None:
            region.flush(start, count, Flush(how))

    def advise(self, advice: int, offset: int = 0, length: int | None = None) -> None:
        """Tells the system what is to come: an `Advice`.  A range is widened to whole pages, or
        narrowed where the advice throws pages away."""
        number = _index("advice", advice, -(1 << 31))
        region, start, count = self._range(offset, length)
        inward = number in _INWARD
        region.advise(start, count, number, inward)

    madvise = advise

    def lock(self, offset: int = 0, length: int | None = None) -> None:
        """Keeps the pages in memory; again does no harm."""
        region, start, count = self._range(offset, length)
        try:
            region.lock(start, count)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.EPERM, errno.EAGAIN):
                raise
            if mappings_are_used_up():
                raise _explained(error) from None
            most = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
            message = f"expected at most RLIMIT_MEMLOCK = {most} locked bytes, found {count} more"
            raise OSError(error.errno, f"{message} ({error.strerror})") from None

    def unlock(self, offset: int = 0, length: int | None = None) -> None:
        """Lets the pages go again; again does no harm."""
        region, start, count = self._range(offset, length)
        region.unlock(start, count)

    def resident(self, offset: int = 0, length: int | None = None) -> Residency:
        """Which pages are in memory.  Of files that this user may not write, the system says that
        all are."""
        region, start, count = self._range(offset, length)
        pages = list(map(bool, region.resident(start, count)))
        return Residency(pages, sum(pages) * PAGE_SIZE)

    def prefault(self, offset: int = 0, length: int | None = None, write: bool = False) -> None:
        """Brings the pages in, to be written if so said; `MappingFault` if they cannot be had."""
        region, start, count = self._range(offset, length)
        if write and not region.writable:
            raise TypeError("prefault: expected a mapping that may be written, found another")
        try:
            region.prefault(start, count, write)
        except OSError as error:
            if error.errno != errno.EINVAL:  # before Linux 5.14
                raise
            for at in (*range(start, start + count, PAGE_SIZE), start + count - 1):
                self[at]

    def size(self) -> int:
        """Bytes of the file as it is now; the length where there is none."""
        return self._entered().length

    @property
    def readonly(self) -> bool:
        """Whether it can only be read."""
        return not self._entered().writable

    @property
    def views(self) -> int:
        """Views that are out."""
        return 0 if self.region is None else self.region.views

    @property
    def address(self) -> int:
        """Where the bytes lie in this process; 0 if there are none."""
        return self._entered().address


_INWARD = {int(member) for member in Advice if member.name in _DESTROYS}


class Mapping(MappedBytes):
    """``length`` bytes of shared memory, or with `open` a file, or with `anonymous` memory that has
    no descriptor; usable wherever an ``mmap.mmap`` is.

    Shared memory of ``Mapping(length)`` is committed when it is made and sealed, so no access can
    fault; it reaches children through fork, and any process as an argument, through a pool or queue
    or by `send_fd`.  For memory with a name there is `Segment`.  ``max_size`` keeps addresses for
    growth in place, under views.  ``huge_pages="try"`` or ``"require"`` asks for huge pages;
    ``page_size`` tells what came of it.

    Nothing has to be closed: memory goes with its last reference, and a view is one.  Any access
    through the object raises `MappingFault` when the memory behind it is gone; a bare view needs
    `guard_faults` for that.
    """

    _backing: Backing | None = None
    _access: Access = "rw"
    _wanted: int | None = 0  # None: to the end of the file, wherever that is
    _max_size: int | None = None
    _shared = True  # not copy-on-write, and not private memory

    # Doors.

    def __init__(
        self,
        length: int,
        *,
        max_size: int | None = None,
        huge_pages: HugePages | None = None,
        name: str = "shmipc",
    ) -> None:
        count, most = _lengths(length, max_size)
        for page in _page_sizes(huge_pages):
            try:
                return self._make_memfd(count, most, page, name)
            except OSError as error:
                if not _lacks_huge_pages(error, page):
                    raise
        raise _no_huge_pages(page)

    def _make_memfd(self, length: int, most: int, page: int, name: str) -> None:
        huge = page > PAGE_SIZE
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | (os.MFD_HUGETLB if huge else 0)
        behind = Backing(os.memfd_create(name, flags), f"memfd:{name}", owned=True)
        whole = -(-length // page) * page if huge else length
        if huge:
            os.ftruncate(behind.fd, whole)
        else:
            commit_memory(behind.fd, length, "shared memory")
        add_seals(behind.fd, Seal.SHRINK | (Seal(0) if most > length else Seal.GROW))
        self._map(behind, "rw", 0, length, most, page=page, stable=True)
        self._wanted, self._max_size = length, most if most > length else None

    @classmethod
    def anonymous(
        cls,
        length: int,
        shared: bool = True,
        *,
        max_size: int | None = None,
        huge_pages: HugePages | None = None,
        secret: bool = False,
        address: int | None = None,
    ) -> Self:
        """Memory with nothing behind it, not even a descriptor: shared with children of fork (and
        committed), or private.  ``secret``: the system itself cannot read it, nor write it to a
        core dump (where it knows memfd_secret)."""
        count, most = _lengths(length, max_size)
        self = cls.__new__(cls)
        self._shared = shared
        if secret:
            self._make_secret(count, most, address)
            return self
        if most > count and not shared:
            raise ValueError("max_size: expected none for private memory, which resize() moves")
        check_room(min(memory_limits(), default=None), count, "anonymous memory")
        self._max_size = most if most > count else None
        for page in _page_sizes(huge_pages):
            try:
                self._map(None, "rw", 0, count, most, page, address=address, stable=True)
                if shared:
                    self._commit(self._entered(), 0, count)
                return self
            except OSError as error:
                if not _lacks_huge_pages(error, page):
                    raise
        raise _no_huge_pages(page)

    def _make_secret(self, length: int, most: int, address: int | None) -> None:
        if most > length:
            raise ValueError("max_size: expected none for secret memory, which cannot grow")
        try:
            behind = Backing(binding.secret_file(), None, owned=True)
        except OSError as error:
            message = "secret memory is not to be had on this system (secretmem.enable, Linux 5.14)"
            raise OSError(error.errno, f"{message}: {error.strerror}") from None
        os.ftruncate(behind.fd, length)
        self._map(behind, "rw", 0, length, length, address=address, stable=True)
        self._backing = None  # the mapping keeps the file; its descriptor goes

    @classmethod
    def open(
        cls,
        file: File,
        access: Access = "r",
        *,
        offset: int = 0,
        length: int | None = None,
        extend: bool = False,
        max_size: int | None = None,
        address: int | None = None,
    ) -> Self:
        """A file that is there: its path, a descriptor or a file object, which may be closed
        afterwards (a writer is flushed first).

        ``access`` is "r", "rw", "copy" (changes stay here), "rx", "rwx" or "none".  Any ``offset``;
        without a ``length`` to the end.  Past the end is an error, unless ``extend`` makes the file
        longer, with memory for it or not at all.
        """
        if access not in _PROTECTIONS:
            expected = ", ".join(map(repr, _PROTECTIONS))
            raise ValueError(f"access: expected one of {expected}, found {access!r}")
        start = _index("offset", offset)
        count = None if length is None or length == -1 else _index("length", length)
        most = None if max_size is None else _index("max_size", max_size)
        if extend and (access not in ("rw", "rwx") or count is None):
            raise ValueError("extend: expected access='rw' and a length")
        with opened(file, access in ("rw", "rwx")) as (fd, shown):
            check_file(fd, shown, access)
            behind = share_backing(fd, shown, access in ("rw", "rwx"))
        if extend and count is not None and start + count > behind.size():
            size = behind.size()
            commit_memory(behind.fd, start + count - size, str(shown), size)
        return cls._over(behind, access, start, count, most, address=address)

    @classmethod
    def _over(
        cls,
        behind: Backing,
        access: Access,
        offset: int,
        length: int | None,
        max_size: int | None,
        address: int | None = None,
    ) -> Self:
        size = behind.size()
        count = size - offset if length is None else length
        if count < 0 or offset + count > size:
            raise ValueError(
                f"{behind.name}: expected an offset and a length within its {size} bytes, "
                f"found {offset} and {'the rest' if length is None else length}"
            )
        if max_size is not None and max_size < count:
            raise ValueError(f"max_size: expected at least {count}, found {max_size}")
        self = cls.__new__(cls)
        self._wanted, self._max_size, self._shared = length, max_size, access != "copy"
        most = max(count, max_size or 0)
        self._map(behind, access, offset, count, most, page_of(behind.fd), address)
        return self

    def _map(
        self,
        behind: Backing | None,
        access: Access,
        offset: int,
        length: int,
        most: int,
        page: int = PAGE_SIZE,
        address: int | None = None,
        stable: bool = False,
    ) -> None:
        """What a door does in the end."""
        self._backing, self._access = behind, access
        self._bind(self._region(offset, length, most, page, address, stable))

    def _region(
        self,
        offset: int,
        length: int,
        most: int,
        page: int = PAGE_SIZE,
        address: int | None = None,
        stable: bool = False,
    ) -> Region:
        behind = self._backing
        flags = binding.SHARED if self._shared else binding.PRIVATE
        if behind is None:
            flags |= binding.ANONYMOUS | (binding.HUGE_PAGES if page > PAGE_SIZE else 0)
        if address is not None and _index("address", address, 1) % page != offset % page:
            raise ValueError(f"address: expected one like the offset within a page of {page}")
        return _make_region(
            behind,
            -1 if behind is None else behind.fd,
            offset,
            length,
            most,
            _PROTECTIONS[self._access],
            flags,
            page=page,
            address=0 if address is None else address - offset % page,
            stable=stable or (behind is not None and cannot_shrink(behind, offset + length)),
            file_reads=behind is not None and self._shared and reads_alike(behind.fd),
        )

    def _commit(self, region: Region, start: int, length: int) -> None:
        """Anonymous shared memory: pages now, or an error now."""
        try:
            region.prefault(start, length, True)
        except MappingFault:
            message = f"expected {length} bytes for anonymous memory, found fewer"
            raise OSError(errno.ENOMEM, message) from None

    # What it is.

    @property
    def access(self) -> Access:
        """How it was opened, or what `protect` made of it."""
        self._entered()
        return self._access

    @property
    def offset(self) -> int:
        """Where in the file it begins."""
        return self._entered().offset

    @property
    def name(self) -> str | None:
        """The file's path; None where there is none."""
        return None if self._backing is None else self._backing.name

    @property
    def page_size(self) -> int:
        """Bytes of a page of this memory; more than `PAGE_SIZE` for huge pages."""
        return self._entered().page

    @property
    def max_size(self) -> int | None:
        """What it can grow to in place, if more was asked for."""
        return self._max_size

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.region is None

    def size(self) -> int:
        """Bytes of the file as it is now; the length where there is none."""
        region = self._entered()
        return region.length if self._backing is None else self._backing.size()

    def __repr__(self) -> str:
        if self.region is None:
            return "<Mapping closed>"
        return f"<Mapping {self.name or 'anonymous'} {self._access!r} {len(self)} bytes>"

    # What can be done to it.

    def protect(self, access: Access, offset: int = 0, length: int | None = None) -> None:
        """Changes what may be done to the bytes, or to the pages of a range.

        `BufferError` if a view is out that would promise too much.  After a part was changed the
        object still answers with errors, never with a signal, but gives no new views until the
        whole is one again.
        """
        copies = not self._shared and self._backing is not None
        if access not in _PROTECTIONS or access in (("rw", "rwx") if copies else ("copy",)):
            raise ValueError(f"access: expected one that fits {self._access!r}, found {access!r}")
        region, start, count = self._range(offset, length)
        protection = _PROTECTIONS[access]
        writes = protection & binding.PROTECT_WRITE
        if (region.writable_views and not writes) or (region.views and not protection):
            raise BufferError(f"expected no view that {access!r} would forbid, found {self.views}")
        try:
            region.protect(start, count, protection)
        except OSError as error:
            raise _explained(error) from None
        if not region.mixed:
            self._access = access

    def resize(self, newsize: int) -> None:
        """Makes it, and its file, longer or shorter.

        Within ``max_size`` it grows in place, under views.  Otherwise it moves, if no view is out;
        else `BufferError`.  The file's new part is committed: `OSError(ENOSPC)` if it has no room.
        """
        count = _index("newsize", newsize)
        with _one_change_at_a_time():
            region = self._entered()
            if self._access not in ("rw", "rwx"):
                raise TypeError(f"resize: expected access='rw', found {self._access!r}")
            if count == region.length:
                return
            in_place = count > region.length and count <= (self._max_size or 0)
            if region.views and not in_place:
                raise BufferError(f"expected no view for this resize, found {region.views}")
            if self._backing is None:
                self._resize_memory(region, count)
            else:
                self._resize_file(region, count)
            self._wanted = None if self._wanted is None else count

    def _resize_memory(self, region: Region, count: int) -> None:
        before = region.length
        if self._shared and count > region.reserve:
            raise ValueError(
                f"resize: expected at most max_size={region.reserve} bytes, which children share, "
                f"found {count}"
            )
        if count > region.reserve:
            longer = self._region(0, count, _room_for(region, count), stable=True)
            longer.fill(self[:])
            self._move(region, longer)
            return
        region.resize(count)
        if self._shared and count > before:
            self._commit(region, before, count - before)

    def _resize_file(self, region: Region, count: int) -> None:
        behind = self._backing
        assert behind is not None
        end, size = region.offset + count, behind.size()
        forbidden = Seal.SHRINK if end < size else Seal.GROW
        if end != size and forbidden in self.seals:
            raise ValueError(
                f"resize: expected {region.length} bytes, since it is sealed ({forbidden.name}), "
                f"found {count}; max_size= keeps it open for growth"
            )
        if end > size:
            commit_memory(behind.fd, end - size, str(self.name), size)
        self._extend_to(region, count)
        if end < size:
            os.ftruncate(behind.fd, end)

    def _extend_to(self, region: Region, count: int) -> None:
        """As many bytes of the file; in place, or, where there is no room for that, elsewhere."""
        if count <= region.reserve:
            region.resize(count)
            return
        if region.mixed:
            raise BufferError("expected one protection for a move, found several")
        room = _room_for(region, count)
        self._move(region, self._region(region.offset, count, room, region.page))

    def _move(self, old: Region, new: Region) -> None:
        self._exchange(old, new)
        if self._max_size is not None:
            self._max_size = max(self._max_size, new.length)
        old.empty()

    def refresh(self) -> bool:
        """Looks at the file again: takes up what was appended (if it was mapped to the end), lets
        go what was cut off, forgets a fault.  True if the length has changed.

        `BufferError` if views are in the way: when something was cut off, or when it has grown and
        ``max_size`` keeps no room for it.
        """
        with _one_change_at_a_time():
            region = self.region
            if region is None:
                raise ClosedError("this handle is closed")
            return self._backing is not None and self._follow(region, self._backing.size())

    def _follow(self, region: Region, size: int) -> bool:
        left = max(size - region.offset, 0)
        count = left if self._wanted is None else min(left, self._wanted)
        before = region.length
        if region.views and count < before:
            raise BufferError(f"{before - count} bytes are gone under {region.views} views")
        if region.views and count > max(before, self._max_size or 0):
            raise BufferError("expected no view, or max_size= with room, to take up what was added")
        if region.faulty:
            if region.mixed:
                raise BufferError("expected one protection to map it anew, found several")
            region.remap(min(count, region.reserve))
        if count != region.length:
            self._extend_to(region, count)
        return count != before

    def close(self, views: Literal["refuse", "detach", "force"] = "refuse") -> None:
        """Lets the memory go.  With views out: ``"refuse"`` is `BufferError` and changes nothing,
        ``"detach"`` leaves it to them, ``"force"`` takes it away, and they read zeros.

        It does not flush.  After an error nothing has changed, and it may be tried again.
        """
        if views not in ("refuse", "detach", "force"):
            raise ValueError(f"views: expected 'refuse', 'detach' or 'force', found {views!r}")
        region = self.region
        if region is None:
            return
        if region.views and views == "refuse":
            raise BufferError(
                f"expected no views, found {region.views}: close('detach') leaves them "
                "the memory, close('force') takes it from them"
            )
        if views == "force" or (region.viewed and not region.views):
            region.empty()  # a pointer that somebody kept without a view then reads zeros
        elif not region.views:
            region.unmap()
        self._unbind()
        self._backing = None

    def __enter__(self) -> Self:
        self._entered()
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    # Seals, and the way to other processes.

    @property
    def seals(self) -> Seal:
        """Of a memfd; none for other files."""
        self._entered()
        return Seal(0) if self._backing is None else seals_of(self._backing.fd)

    def seal(self, seals: Seal) -> None:
        """Adds seals to a memfd, for good; WRITE asks that nobody has it mapped for writing."""
        self._entered()
        if self._backing is None or not isinstance(seals, int):
            raise ValueError("seal: expected a memfd, and Seal flags")
        add_seals(self._backing.fd, Seal(seals))

    def _sendable(self) -> Backing:
        self._entered()
        if self._backing is None:
            raise TypeError("anonymous memory reaches children of fork only: use Mapping(length)")
        if self._access == "copy":
            raise TypeError("a copy-on-write mapping is this process's own and cannot be sent")
        return self._backing

    def __reduce__(self) -> tuple[Any, ...]:
        behind = self._sendable()
        writable = self._access in ("rw", "rwx")
        ticket = ticket_for(behind.fd, os.O_RDWR if writable else os.O_RDONLY)
        found = os.fstat(behind.fd)
        region = self._entered()
        length = None if self._wanted is None else region.length
        facts = (self._access, region.offset, length, self._max_size)
        return _receive, (type(self), ticket, (found.st_dev, found.st_ino), behind.name, facts)

    def send_fd(self, sock: socket.socket) -> None:
        """Over a Unix socket, for ``Mapping.recv_fd``."""
        region = self._entered()
        behind = self._sendable()
        message = _Message(_MAGIC, region.offset, region.length, self._max_size or 0)
        send_descriptor(sock, _WIRE.pack(*message), behind.fd)

    @classmethod
    def recv_fd(cls, sock: socket.socket, access: Access = "rw", seals: Seal = Seal.SHRINK) -> Self:
        """What ``send_fd`` sent.  It is checked before it is mapped: `LayoutError` unless it is
        long enough and has at least these ``seals``, so that the sender cannot pull it away."""
        message, fd = receive_descriptor(sock, _WIRE.size)
        try:
            sent = _Message(*_WIRE.unpack(message))
            if sent.magic != _MAGIC:
                raise LayoutError(f"expected a mapping from send_fd, found {sent.magic!r}")
            if max(sent.offset, sent.length, sent.max_size) > _MOST:
                raise LayoutError(f"expected sizes up to {_MOST}, found {sent[1:]}")
            found = seals_of(fd)
            if seals & ~found:
                raise LayoutError(f"expected a memfd sealed with {seals!r}, found {found!r}")
            size = os.fstat(fd).st_size
            if sent.offset + sent.length > size:
                raise LayoutError(
                    f"expected {sent.offset + sent.length} bytes, found a file of {size}"
                )
            check_file(fd, link_of(fd), access)
            behind = share_backing(fd, link_of(fd), access in ("rw", "rwx"))
        finally:
            os.close(fd)
        most = max(sent.max_size, sent.length) if sent.max_size else None
        return cls._over(behind, access, sent.offset, sent.length, most)


_MAGIC = b"shmipcmp"
_MOST = 1 << 46  # a process has no more addresses
_WIRE = struct.Struct("=8sQQQ")


class _Message(NamedTuple):
    magic: bytes
    offset: int
    length: int
    max_size: int


def _receive(
    cls: type[Mapping],
    ticket: Any,
    identity: tuple[int, int],
    name: str | None,
    facts: tuple[Access, int, int | None, int | None],
) -> Mapping:
    fd = ticket.detach()
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != identity:
            raise BrokenError("the Mapping sent is gone: its descriptor is another's")
        behind = share_backing(fd, name, facts[0] in ("rw", "rwx"))
    finally:
        os.close(fd)
    return cls._over(behind, *facts)


def _lengths(length: object, max_size: object) -> tuple[int, int]:
    count = _index("length", length)
    most = count if max_size is None else _index("max_size", max_size)
    if most < count:
        raise ValueError(f"max_size: expected at least the length {count}, found {most}")
    return count, most


def _page_sizes(huge_pages: str | None) -> list[int]:
    """What to try, in order."""
    if huge_pages not in (None, "try", "require"):
        raise ValueError(f"huge_pages: expected None, 'try' or 'require', found {huge_pages!r}")
    huge = huge_page_size() if huge_pages else None
    if huge_pages == "require":
        if huge is None:
            raise OSError(errno.ENOMEM, "huge_pages='require': this system has none")
        return [huge]
    return [PAGE_SIZE] if huge is None else [huge, PAGE_SIZE]


def _lacks_huge_pages(error: OSError, page: int) -> bool:
    return page > PAGE_SIZE and error.errno in (errno.ENOMEM, errno.ENOSPC, errno.ENOSYS)


def _no_huge_pages(page: int) -> OSError:
    message = f"expected free huge pages of {page} bytes, found too few: see vm.nr_hugepages"
    return OSError(errno.ENOMEM, message)


def _room_for(region: Region, count: int) -> int:
    """Addresses for a region that moves.  Where a pointer may be out the old ones stay taken, so
    twice as many each time keep that from happening often."""
    return max(count, 2 * region.reserve) if region.viewed else count


_changes = threading.RLock()


def _one_change_at_a_time() -> contextlib.AbstractContextManager[Any]:
    """What makes a mapping longer or shorter looks at the file first."""
    return _changes


def _start_alone() -> None:
    """In a child of fork."""
    global _changes
    _changes = threading.RLock()
    binding.forget_threads()


os.register_at_fork(after_in_child=_start_alone)
