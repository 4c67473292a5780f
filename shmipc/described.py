"""Bytes that say what they are: what numbers, arrays and structures in shared memory stand on.

A description lies in front of them, so that whoever finds them by name knows their type, or is told
that it is another one.  Few anonymous bytes share an arena; many, and those with a name, have a
segment of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.arena import SmallObject
from shmipc.backing import Backing, Seal, seals_of
from shmipc.errors import CorruptError
from shmipc.membership import Membership, Plan
from shmipc.segment import SharedObject

__all__ = ["DescribedMemory", "Description", "DualUnlink", "NewBytes"]

CELLS_IN_ARENA = 64
"""Objects of more cells have a segment of their own."""


class Description(NamedTuple):
    """What stands in front of the bytes."""

    kind: int
    size: int
    lock: int
    lock_cookie: bytes
    lock_cell: int
    text: bytes

    @property
    def cells(self) -> int:
        """That it takes, with the lock that belongs to it."""
        return self.lock_at + (1 if self.lock == binding.OWN_LOCK else 0)

    @property
    def lock_at(self) -> int:
        """Where that lock is, counted from the description's first cell."""
        return binding.description_cells(self.text)


class NewBytes(Protocol):
    """The parameters of a new one."""

    @property
    def description(self) -> Description: ...

    @property
    def initial(self) -> bytes | None:
        """What the bytes are at first; zeros by default."""


class DescribedMemory(binding.MemoryCore, SmallObject):
    """Such bytes: a writable buffer, which every view on it keeps.

    A class gives ``_kind``, ``_Parameters`` (as `NewBytes`) and ``_understand``.
    """

    _local: tuple[str, ...] = ()
    _access = "rw"

    @classmethod
    def _understand(cls, found: Description, shown: str) -> dict[str, Any]:
        """What the description says, by parameter; `CorruptError` if it cannot be."""
        raise NotImplementedError

    @classmethod
    def _described(cls, attachment: Attachment, cell: int = 0) -> Description:
        """What stands there; it is read once, and is as trustworthy as any of its readers."""
        found = Description(*binding.read_description(attachment, cell))
        shown = attachment.shown
        if found.kind != cls._kind:
            wanted = binding.kind_name(cls._kind)
            raise CorruptError(f"{shown}: expected the description of a {wanted}, found none")
        if found.lock > binding.FOREIGN_LOCK:
            raise CorruptError(f"{shown}: no lock can be of kind {found.lock}")
        if attachment.kind == cls._kind and found.size != attachment.payload_size:
            raise CorruptError(
                f"{shown}: expected {attachment.payload_size} bytes as its header says, found a "
                f"description of {found.size}"
            )
        return found

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        return cls._understand(cls._described(attachment), attachment.shown)

    # Making.

    @classmethod
    def _cells(cls, parameters: NewBytes) -> int:
        description = parameters.description
        return description.cells + -(-description.size // binding.CELL)

    @classmethod
    def _plan(cls, parameters: NewBytes) -> Plan:
        description = parameters.description
        return Plan(
            cls._kind,
            body_size=description.cells * binding.CELL,
            payload_size=description.size,
            format=partial(cls._format, cell=0, parameters=parameters),
        )

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: NewBytes) -> None:
        binding.write_description(attachment, cell, *parameters.description)
        if parameters.initial:
            fresh = binding.MemoryCore()
            _place(fresh, attachment, cell, parameters.description, True)
            memoryview(fresh)[:] = parameters.initial

    def _start(self, parameters: NewBytes) -> None:
        if self._cells(parameters) > CELLS_IN_ARENA:
            SharedObject._start(self, parameters)
        else:
            super()._start(parameters)

    @classmethod
    def _make_body_anew(cls, attachment: Attachment) -> None:
        """The bytes are left for the user to judge; a lock of their own is freed."""
        found = cls._described(attachment)
        if found.lock == binding.OWN_LOCK:
            attachment.clear_cells(found.lock_at, 1)

    # Having.

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        self._cell = local.get("cell", 0)
        self.description = self._described(attachment, self._cell)
        _place(self, attachment, self._cell, self.description, self._access == "rw")

    def _travelling(self) -> dict[str, Any]:
        self._forks = -1  # somebody else knows the cells from now on
        return {"cell": self._cell}

    def another_hold(self) -> Membership:
        """For the handle on something that belongs to it."""
        return self._open_membership().another()


def _place(
    memory: binding.MemoryCore,
    attachment: Attachment,
    cell: int,
    description: Description,
    writable: bool,
) -> None:
    """Puts a handle over the bytes."""
    if attachment.kind == binding.KIND_ARENA or description.size == 0:
        memory._bind_cells(attachment, cell + description.cells, description.size, writable)
        return
    behind = Backing(attachment.fd, attachment.shown)
    stable = Seal.SHRINK in seals_of(attachment.fd)
    memory._bind_region(binding.segment_region(attachment, behind, writable, stable))


class DualUnlink:
    """``obj.unlink()`` and ``X.unlink(name)``, for an object that stands on such memory."""

    def __init__(self, memory: type[DescribedMemory], of: Callable[[Any], DescribedMemory]) -> None:
        self._memory = memory
        self._of = of

    def __get__(self, obj: Any, cls: type[Any]) -> Callable[..., None]:
        unlink: Callable[..., None] = (self._memory if obj is None else self._of(obj)).unlink
        return unlink
