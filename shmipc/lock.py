"""Locks that survive the death of their holder.

A lock is one word in shared memory that carries its owner's identity.  When the owner dies, the
kernel tells whoever waits or polls, and the next one inherits the lock with an `OwnerDiedWarning`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.errors import OwnerDiedWarning
from shmipc.membership import SLOTS, Plan, new_anonymous
from shmipc.segment import SharedObject

__all__ = ["Lock", "RLock", "SemaphoreLock"]

ADAPTIVE = 0xFFFFFFFF


def check_spin(spin: float | None) -> int:
    """The budget for the core: nanoseconds, or the mark for adaptive."""
    if spin is None:
        return ADAPTIVE
    if isinstance(spin, bool) or not isinstance(spin, (int, float)):
        raise TypeError(f"spin: expected microseconds or None, found {type(spin).__name__}")
    if not 0 <= spin <= 1e6:
        raise ValueError(f"spin: expected 0 to 1000000 microseconds, found {spin}")
    return int(spin * 1000)


# --- small anonymous locks share a segment ------------------------------------------------------


class _Arena:
    """A segment full of lock cells, of which this process hands out one after the other.

    A cell is used again only if nobody else can know it: its handle was never pickled, and this
    process has not forked since.  A child of fork makes an arena of its own.
    """

    cells: ClassVar[int] = (binding.GRANULE - 1024 - SLOTS * 128) // binding.LOCK_SIZE

    def __init__(self) -> None:
        plan = Plan(binding.KIND_ARENA, body_size=self.cells * binding.LOCK_SIZE)
        self.membership = new_anonymous(plan)
        self.next = 0
        self.free: list[int] = []

    def take(self) -> int | None:
        if self.free:
            return self.free.pop()
        if self.next == self.cells:
            return None
        self.next += 1
        return self.next - 1

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.membership.let_go()


_arena: _Arena | None = None
_arena_guard = threading.RLock()
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


def _drop_arena() -> None:
    global _arena, _arena_guard
    _arena = None
    _arena_guard = threading.RLock()


os.register_at_fork(before=_count_fork, after_in_child=_drop_arena)


def _take_cell() -> tuple[_Arena, int]:
    global _arena
    with _arena_guard:
        cell = _arena.take() if _arena is not None else None
        if _arena is None or cell is None:
            _arena = _Arena()
            cell = 0
            _arena.next = 1
        _arena.membership.another()
        return _arena, cell


# --- the locks ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LockParameters:
    spin: float | None = None

    def __post_init__(self) -> None:
        check_spin(self.spin)


class _SharedLock(binding.LockCore, SharedObject):
    """What the three locks share."""

    _Parameters = _LockParameters
    _local = ("spin",)
    _arena: _Arena | None = None
    _cell = 0
    _spin: float | None = None

    def __init__(self, *, spin: float | None = None) -> None:
        parameters = _LockParameters(spin)
        self._arena, cell = _take_cell()
        self._forks = _forks
        self._enter(self._arena.membership, {"spin": parameters.spin, "cell": cell})

    @classmethod
    def _plan(cls, parameters: _LockParameters) -> Plan:
        return Plan(cls._kinds[0], body_size=binding.LOCK_SIZE)

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        self._cell = local.get("cell", 0)
        self._spin = local.get("spin")
        self._bind(attachment, self._cell, check_spin(self._spin))

    def _travelling(self) -> dict[str, Any]:
        self._forks = -1  # somebody else knows the cell from now on
        return {"spin": self._spin, "cell": self._cell}

    def _let_go(self) -> None:
        arena, self._arena = self._arena, None
        if arena is not None and self._forks == _forks and not self._is_held():
            with _arena_guard:
                arena.free.append(self._cell)
        super()._let_go()

    def _inherited(self, owner: tuple[int, str] | None) -> None:
        """Called by the binding with the lock in hand; a warning that is an error frees it."""
        who = f"process {owner[0]} ({owner[1]})" if owner else "a process"
        warnings.warn(
            f"{who} died holding {self!r}: what it protects may be half written",
            OwnerDiedWarning,
            stacklevel=2,  # the binding has no frame of its own
        )


class Lock(_SharedLock):
    """A lock for processes and threads, as `multiprocessing.Lock`: anybody may release it.

    When its holder dies, the next ``acquire()`` succeeds with an `OwnerDiedWarning`; nobody hangs,
    whether he waits or polls.  ``spin`` is how many microseconds to try before sleeping; by default
    it adapts.
    """

    _kinds = (binding.KIND_LOCK, binding.KIND_ARENA)


class RLock(binding.RLockCore, _SharedLock):
    """A lock that its thread may take again, as `multiprocessing.RLock`; it is free when it has
    been released as often.  A dead holder's is inherited as a `Lock`'s."""

    _kinds = (binding.KIND_RLOCK, binding.KIND_ARENA)


class SemaphoreLock(_SharedLock):
    """A `Lock` whose waiters sleep on a POSIX named semaphore instead of a futex.

    The word in shared memory decides who holds it, so a death is survived as with `Lock`; a
    program that uses the bare semaphore alone is outside of that.
    """

    _kinds = (binding.KIND_SEMAPHORE_LOCK,)

    def __init__(self, *, spin: float | None = None) -> None:
        self._start(_LockParameters(spin))

    @classmethod
    def _plan(cls, parameters: _LockParameters) -> Plan:
        return Plan(cls._kinds[0], body_size=binding.LOCK_SIZE, semaphores=1)
