"""What can go wrong, by who caused it: you closed it, the other side broke it, somebody else has
it, it would block, it is over."""

from __future__ import annotations

import errno
import queue
import threading

__all__ = [
    "BrokenBarrierError",
    "BrokenError",
    "BusyError",
    "ClosedError",
    "CorruptError",
    "Empty",
    "Full",
    "LayoutError",
    "MappingFault",
    "MappingLimitError",
    "OwnerDiedError",
    "OwnerDiedWarning",
    "ShmipcError",
    "ShutDown",
]


class ShmipcError(Exception):
    """The base of all errors that only shmipc raises."""


class Full(ShmipcError, queue.Full):
    """There was no room in time.  ``count`` messages of a batch had been put before."""

    count: int = 0


class Empty(ShmipcError, queue.Empty):
    """There was no message in time."""


# queue.ShutDown came with Python 3.13; where it exists, ``except queue.ShutDown`` works.
class ShutDown(ShmipcError, getattr(queue, "ShutDown", Exception)):  # type: ignore[misc]
    """The stream has ended: nothing can be put, or everything put has been taken."""


class ClosedError(ShmipcError, ValueError):
    """This handle was closed by its own process."""


class BusyError(ShmipcError):
    """Another living process has what only one can have: a side of a ring, or all the slots."""


class BrokenError(ShmipcError):
    """What a dead process, or another boot of the machine, left behind cannot be used."""


class OwnerDiedError(ShmipcError):
    """The lock's owner died holding it.  It was made with ``on_owner_death="raise"``, so nobody
    gets it until somebody calls ``recover()``."""


class BrokenBarrierError(ShmipcError, threading.BrokenBarrierError):
    """The parties do not meet: one has died, waited too long or called ``abort()``, or the barrier
    was reset."""


class LayoutError(ShmipcError, ValueError):
    """It is not what was asked for: no segment, another version, kind or parameter."""


class CorruptError(ShmipcError):
    """Shared memory holds a value that shmipc never writes."""


class MappingFault(ShmipcError, OSError):
    """The memory behind a mapping cannot be had: its file was truncated or cannot be read, or there
    is no room for it.  ``filename`` and ``offset`` say where."""

    offset: int

    def __init__(self, filename: str | None, offset: int) -> None:
        why = "it was truncated, cannot be read or has no room; refresh() looks at it again"
        super().__init__(errno.EFAULT, f"byte {offset} of the file cannot be had: {why}", filename)
        self.offset = offset

    def __reduce__(self) -> tuple[type[MappingFault], tuple[str | None, int]]:
        return type(self), (self.filename, self.offset)


class MappingLimitError(ShmipcError, OSError):
    """The system lets this process have no more mappings (``vm.max_map_count``)."""


class NameGone(ShmipcError):
    """A name was removed between the look and the attachment; never seen outside."""


class OwnerDiedWarning(RuntimeWarning):
    """A lock came from an owner that died holding it: what it protects may be half written."""
