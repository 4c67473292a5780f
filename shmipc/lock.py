"""Locks that survive the death of their holder.

A lock is one word in shared memory that carries its owner's identity.  When the owner dies, the
kernel tells whoever waits or polls, and the next one inherits the lock, with a warning, or is
refused it until somebody recovers it.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.arena import SIZES, SmallObject
from shmipc.errors import OwnerDiedError, OwnerDiedWarning
from shmipc.membership import Plan
from shmipc.segment import SharedObject, check_choice, check_spin

__all__ = ["Lock", "LockStats", "Owner", "RLock", "SemaphoreLock"]

OnOwnerDeath = Literal["warn", "raise"]


class Owner(NamedTuple):
    """Who holds a lock."""

    pid: int
    """As the process sees itself."""
    thread: int
    """As the kernel numbers threads (`threading.get_native_id`); 0 if that is not known."""
    alive: bool
    """False: it died holding the lock, and nobody has taken that over yet."""
    since: float | None
    """A time as `time.time` gives it, from which on it has held the lock at least.  The first who
    sleeps on the lock writes it down; None if nobody has."""
    command: str | None
    """The command line; None if another process has taken the dead one's place."""


class LockStats(NamedTuple):
    """Counts of a lock since it was made, by all processes; a kill may leave one of them out."""

    acquisitions: int
    contended: int
    """Those of them that found the lock held at first."""
    parks: int
    """Times that who acquired it in the end had slept for it."""
    owner_deaths: int
    """Times that it was taken over from a dead owner."""
    longest_wait: float
    """Seconds, of those who slept and acquired it."""


class DeadOwner(NamedTuple):
    """From whom a lock was inherited; what is not known any more is None."""

    pid: int | None
    command: str | None
    since: float | None

    def __str__(self) -> str:
        who = "a process" if self.pid is None else f"process {self.pid} ({self.command})"
        if self.since is None:
            return who
        return f"{who}, the owner since {_clock_time(self.since)} or before,"


def _clock_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _seconds(nanoseconds: int) -> float | None:
    """The core's stamp as a time; zero means that there is none."""
    return nanoseconds / 1e9 if nanoseconds else None


def lock_flags(on_owner_death: OnOwnerDeath, robust: bool = True) -> int:
    raises = binding.LOCK_RAISES if on_owner_death == "raise" else 0
    return raises | (0 if robust else binding.LOCK_IS_LENT)


def read_lock_flags(flags: int) -> dict[str, Any]:
    return {
        "on_owner_death": "raise" if flags & binding.LOCK_RAISES else "warn",
        "robust": not flags & binding.LOCK_IS_LENT,
    }


class _Recover:
    """``obj.recover()`` and ``X.recover(name)``."""

    def __get__(self, obj: OwnedLock | None, cls: type[OwnedLock]) -> Callable[..., Any]:
        return cls._recover_name if obj is None else obj._recover_own


class OwnedLock(SharedObject):
    """What is known of the owner, and what his death means: locks, and the writers' side of a
    `RWLock`."""

    # The core's.
    _owner: Callable[[], tuple[int, int, bool, int, str | None] | None]
    _counts: Callable[[], tuple[int, int, int, int, float]]
    _recover: Callable[[bool], bool]

    def owner(self) -> Owner | None:
        """Who holds it now; None if it is free."""
        found = self._owner()
        if found is None:
            return None
        pid, thread, alive, since, command = found
        return Owner(pid, thread, alive, _seconds(since), command)

    def stats(self) -> LockStats:
        """How often it was taken, and how long others waited for it."""
        return LockStats(*self._counts())

    recover = _Recover()

    def _recover_own(self, *, acquire: bool = False) -> bool:
        """After `OwnerDiedError`: what the lock protects is in order, or will be put in order.

        Makes the lock of a dead owner free, or, with ``acquire=True``, yours: to repair under it
        what was half written, and release it.  False if there is no dead owner: somebody else was
        quicker, or, with a `RWLock`, he died before he wrote.  ``X.recover(name)`` is for a file
        that was in use when the machine went down.
        """
        return self._recover(acquire)

    def _inherited(self, found: tuple[int | None, str | None, int]) -> None:
        """Called by the core with the lock in hand; a warning that is an error frees it."""
        pid, command, since = found
        warnings.warn(
            f"{DeadOwner(pid, command, _seconds(since))} died holding {self!r}: "
            "what it protects may be half written",
            OwnerDiedWarning,
            stacklevel=2,  # the core has no frame of its own
        )

    def _refused(self, found: tuple[int, int, bool, int, str | None] | None) -> NoReturn:
        """Called by the core without the lock."""
        dead = DeadOwner(None, None, None)
        if found is not None:
            dead = DeadOwner(found[0], found[4], _seconds(found[3]))
        raise OwnerDiedError(
            f"{dead} died holding {self!r}: what it protects may be half written; put that in "
            "order and call recover()"
        )


def name_in_repr(obj: SharedObject) -> str:
    """What stands before the bracket of a repr: the class, and the name if there is one."""
    name = f" {obj.name!r}" if obj.name else ""
    return type(obj).__name__ + name


def this_thread() -> str:
    """Process and thread as multiprocessing's reprs name them."""
    process = sys.modules.get("multiprocessing.process")
    name: str = process.current_process().name if process else "MainProcess"
    thread = threading.current_thread().name
    return name if thread == "MainThread" else f"{name}|{thread}"


@dataclass(frozen=True)
class _RLockParameters:
    on_owner_death: OnOwnerDeath = "warn"
    spin: float | None = None

    @property
    def flags(self) -> int:
        return lock_flags(self.on_owner_death)

    def __post_init__(self) -> None:
        check_choice("on_owner_death", self.on_owner_death, ("warn", "raise"))
        check_spin(self.spin)


@dataclass(frozen=True)
class _LockParameters(_RLockParameters):
    robust: bool = True

    @property
    def flags(self) -> int:
        return lock_flags(self.on_owner_death, self.robust)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("robust", self.robust, (True, False))
        if not self.robust and self.on_owner_death == "raise":
            raise ValueError(
                'robust=False: its owner\'s death means nothing, so on_owner_death="raise" '
                "cannot be had with it"
            )


class _SharedLock(binding.LockCore, SmallObject, OwnedLock):
    """What the three locks share."""

    _Parameters: ClassVar[type[Any]] = _LockParameters

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        binding.set_lock_flags(attachment, cell, parameters.flags)

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        return read_lock_flags(binding.lock_flags(attachment, 0))

    def _owner_in_repr(self) -> str:
        if self._is_mine():
            return this_thread()
        if self._owner() is None:
            return "None"
        return "SomeOtherThread" if self._is_ours() else "SomeOtherProcess"

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        return f"<{name_in_repr(self)}(owner={self._owner_in_repr()})>"


class Lock(_SharedLock):
    """A lock for processes and threads, as `multiprocessing.Lock`: anybody may release it.

    When its holder dies, the next ``acquire()`` succeeds with an `OwnerDiedWarning`; nobody hangs,
    whether he waits or polls.  With ``on_owner_death="raise"`` every ``acquire()`` raises
    `OwnerDiedError` instead, without the lock, until somebody calls ``recover()``.

    A program that hands a lock over on purpose (a child acquires it and ends, and its parent
    releases it; a process acquires it, then becomes a daemon) makes it with ``robust=False``: then
    a holder's end means nothing, and if nobody releases the lock, it stays held.

    ``spin`` is how many microseconds to try before sleeping; by default it adapts.
    """

    _kind = binding.KIND_LOCK

    def __init__(
        self,
        *,
        on_owner_death: OnOwnerDeath = "warn",
        robust: bool = True,
        spin: float | None = None,
    ) -> None:
        self._start(_LockParameters(on_owner_death, spin, robust))


class RLock(binding.RLockCore, _SharedLock):
    """A lock that its thread may take again, as `multiprocessing.RLock`; it is free when it has
    been released as often.  A dead holder's is inherited as a `Lock`'s, or refused.  As only its
    thread may release it, it cannot be handed over."""

    _kind = binding.KIND_RLOCK
    _Parameters = _RLockParameters

    def __init__(self, *, on_owner_death: OnOwnerDeath = "warn", spin: float | None = None) -> None:
        self._start(_RLockParameters(on_owner_death, spin))

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        return {"on_owner_death": super()._read(attachment)["on_owner_death"]}

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        owner = self._owner_in_repr()
        depth = {"None": 0, "SomeOtherThread": "nonzero", "SomeOtherProcess": "nonzero"}
        return f"<{name_in_repr(self)}({owner}, {depth.get(owner, self._depth)})>"


class SemaphoreLock(_SharedLock):
    """A `Lock` whose waiters sleep on a POSIX named semaphore instead of a futex.

    The word in shared memory decides who holds it, so a death is survived as with `Lock`; a
    program that uses the bare semaphore alone is outside of that.
    """

    _kind = binding.KIND_SEMAPHORE_LOCK

    def __init__(
        self,
        *,
        on_owner_death: OnOwnerDeath = "warn",
        robust: bool = True,
        spin: float | None = None,
    ) -> None:
        # Not in an arena: its semaphore is its own.
        SharedObject._start(self, _LockParameters(on_owner_death, spin, robust))

    @classmethod
    def _plan(cls, parameters: Any) -> Plan:
        return Plan(
            cls._kind,
            body_size=SIZES[cls._kind],
            semaphores=1,
            format=lambda attachment: cls._format(attachment, 0, parameters),
        )
