"""Objects of few bytes: with a name they have a segment each, without one they share an arena.

So a thousand anonymous locks cost a few descriptors and mappings, not a thousand.
"""

from __future__ import annotations

import contextlib
import os
import threading
from functools import partial
from typing import Any, ClassVar

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.membership import SLOTS, Plan, new_anonymous
from shmipc.segment import SharedObject, check_spin

__all__ = ["SmallObject"]

SIZES = binding.sizes_of_cells(SLOTS)
"""Bytes that an object of each kind takes in the body of a segment."""


class _Arena:
    """A segment full of cells, of which this process hands out one run after the other.

    A run is used again only if nobody else can know it: its handle is gone, was never pickled, and
    this process has not forked since.  A child of fork makes arenas of its own.
    """

    most_cells = 8  # of an object; larger ones have arenas of their own
    sizes: ClassVar[dict[bool, int]] = {
        False: binding.GRANULE - 1024 - SLOTS * 128,
        True: 4 * binding.GRANULE - 1024 - SLOTS * 128,
    }

    def __init__(self, large: bool) -> None:
        self.cells = self.sizes[large] // binding.CELL
        plan = Plan(binding.KIND_ARENA, body_size=self.cells * binding.CELL)
        self.membership = new_anonymous(plan)
        self.next = 0
        self.free: dict[int, list[int]] = {}

    def take(self, cells: int) -> int | None:
        """The first of so many cells, all zero; None if there are not as many left."""
        if self.free.get(cells):
            first = self.free[cells].pop()
            self.membership.attachment.clear_cells(first, cells)
            return first
        if self.next + cells > self.cells:
            return None
        self.next += cells
        return self.next - cells

    def give_back(self, first: int, cells: int) -> None:
        self.free.setdefault(cells, []).append(first)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.membership.let_go()


_arenas: dict[bool, _Arena] = {}
_guard = threading.RLock()
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


def _drop_arenas() -> None:
    global _guard
    _arenas.clear()
    _guard = threading.RLock()


os.register_at_fork(before=_count_fork, after_in_child=_drop_arenas)


def _take_cells(cells: int) -> tuple[_Arena, int]:
    large = cells > _Arena.most_cells
    with _guard:
        arena = _arenas.get(large)
        first = arena.take(cells) if arena is not None else None
        if arena is None or first is None:
            arena = _arenas[large] = _Arena(large)
            first = arena.take(cells)
            assert first is not None
        arena.membership.another()
        return arena, first


class SmallObject(SharedObject):
    """A shared object of few bytes.

    A class gives, beside what every shared object gives, ``_kind`` and ``_format``, which writes
    its parameters into cells that are zero.
    """

    _kind: ClassVar[int]
    _local: tuple[str, ...] = ("spin",)
    _spin: float | None = None
    _arena: _Arena | None = None
    _cell = 0
    _forks = -1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_kind" in cls.__dict__:
            cls._kinds = (cls._kind, binding.KIND_ARENA)

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        """Before anybody else can see it."""

    @classmethod
    def _plan(cls, parameters: Any) -> Plan:
        return Plan(
            cls._kind,
            body_size=cls._cells(parameters) * binding.CELL,
            format=partial(cls._format, cell=0, parameters=parameters),
        )

    @classmethod
    def _cells(cls, parameters: Any) -> int:
        return -(-SIZES[cls._kind] // binding.CELL)

    @classmethod
    def _kept(cls, attachment: Attachment) -> Any:
        """The parameters of one that is to be made anew."""
        return cls._Parameters(**cls._read(attachment))

    @classmethod
    def _make_body_anew(cls, attachment: Attachment) -> None:
        kept = cls._kept(attachment)
        attachment.clear_body()
        cls._format(attachment, 0, kept)

    def _start(self, parameters: Any) -> None:
        cells = self._cells(parameters)
        self._arena, first = _take_cells(cells)
        try:
            self._format(self._arena.membership.attachment, first, parameters)
        except BaseException:
            self._arena.membership.let_go()
            raise
        self._forks = _forks
        self._run = cells
        self._enter(self._arena.membership, self._local_of(parameters) | {"cell": first})

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        self._cell = local.get("cell", 0)
        self._spin = local.get("spin")
        self._bind(attachment, self._cell, check_spin(self._spin))

    def _travelling(self) -> dict[str, Any]:
        self._forks = -1  # somebody else knows the cells from now on
        return {"spin": self._spin, "cell": self._cell}

    def __del__(self) -> None:
        # Not earlier: another thread may still be in a call on a handle that was closed.
        super().__del__()
        with contextlib.suppress(Exception):
            if self._arena is not None and self._forks == _forks and self._is_idle():
                with _guard:
                    self._arena.give_back(self._cell, self._run)

    # The core's: puts the handle over cells; whether nobody has or waits for anything.
    _bind: Any
    _is_idle: Any
