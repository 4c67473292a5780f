"""What processes wait for beside locks: semaphores, conditions, events, barriers, RWLocks.

They have multiprocessing's signatures and errors, are shared by related and unrelated processes
alike, and survive the death of whoever uses them: what a process has of any of them is written in
a word of its own, and counts only while it lives.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, SupportsIndex

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.arena import SmallObject
from shmipc.errors import ClosedError, LayoutError
from shmipc.lock import (
    Lock,
    OnOwnerDeath,
    OwnedLock,
    RLock,
    SemaphoreLock,
    lock_flags,
    name_in_repr,
    read_lock_flags,
)
from shmipc.segment import check_choice, check_spin

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "RWLock", "Semaphore"]

LOCK_CELLS = 1


def _check_count(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name}: expected an int, found {type(value).__name__}")
    value = value.__index__()
    if not least <= value <= most:
        raise ValueError(f"{name}: expected {least} to {most}, found {value}")


@dataclass(frozen=True)
class _SpinParameters:
    spin: float | None = None

    def __post_init__(self) -> None:
        check_spin(self.spin)


# --- semaphores ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SemaphoreParameters:
    value: int = 1
    spin: float | None = None

    def __post_init__(self) -> None:
        _check_count("value", self.value, 0, binding.SEMAPHORE_MAX)
        check_spin(self.spin)


class Semaphore(binding.SemaphoreCore, SmallObject):
    """A number of units to take and give back, as `multiprocessing.Semaphore`.

    Anybody may give units back, so they belong to nobody: those that a process had when it died do
    not come back, as with a POSIX semaphore.  `BoundedSemaphore` gives them back.
    """

    _kind = binding.KIND_SEMAPHORE
    _Parameters = _SemaphoreParameters

    def __init__(self, value: int = 1, *, spin: float | None = None) -> None:
        self._start(_SemaphoreParameters(value, spin))

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        binding.format_cell(attachment, cell, cls._kind, parameters.value)

    @classmethod
    def _kept(cls, attachment: Attachment) -> Any:
        return _SemaphoreParameters(binding.first_word(attachment, cls._kind))

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        return f"<{name_in_repr(self)}(value={self.get_value()})>"


class BoundedSemaphore(binding.BoundedSemaphoreCore, SmallObject):
    """A `Semaphore` that knows who has its units, as `multiprocessing.BoundedSemaphore`.

    More releases than acquisitions are a `ValueError`.  When a process dies, the units it had are
    there again for whoever waits or polls.  A release gives back a unit of its own process, or, if
    that has none, one of another's.
    """

    _kind = binding.KIND_BOUNDED_SEMAPHORE
    _Parameters = _SemaphoreParameters

    def __init__(self, value: int = 1, *, spin: float | None = None) -> None:
        self._start(_SemaphoreParameters(value, spin))

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        binding.format_cell(attachment, cell, cls._kind, parameters.value)

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        return {"value": binding.first_word(attachment, cls._kind)}

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        return f"<{name_in_repr(self)}(value={self.get_value()}, maxvalue={self._bound})>"


# --- events -------------------------------------------------------------------------------------


class Event(binding.EventCore, SmallObject):
    """A flag that processes set, clear and wait for, as `multiprocessing.Event`.

    ``set()`` lets everybody go on who waits at that moment, also if ``clear()`` follows at once.
    It has no owner, so nobody's death changes it.
    """

    _kind = binding.KIND_EVENT
    _Parameters = _SpinParameters

    def __init__(self, *, spin: float | None = None) -> None:
        self._start(_SpinParameters(spin))

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        state = "set" if self.is_set() else "unset"
        return f"<{name_in_repr(self)} at {id(self):#x} {state}>"


# --- conditions ---------------------------------------------------------------------------------


def _check_lock(lock: object) -> None:
    if lock is not None and not isinstance(lock, Lock | RLock | SemaphoreLock):
        raise TypeError(f"lock: expected a shmipc lock or None, found {type(lock).__name__}")


@dataclass(frozen=True)
class _ConditionParameters:
    lock: Any = None
    spin: float | None = None

    def __post_init__(self) -> None:
        _check_lock(self.lock)
        check_spin(self.spin)


class Condition(binding.ConditionCore, SmallObject):
    """A lock, and waiting under it until somebody notifies, as `multiprocessing.Condition`.

    ``lock`` is a shmipc lock; by default the condition has an `RLock` of its own.  A condition
    with a name that was made with another lock is attached with that lock:
    ``attach(name, lock=lock)``.

    ``notify(n)`` wakes those who have waited longest and live.  A waiter that is killed delays
    nobody, and a notification that it had been given goes to another one.  If the lock's holder
    dies, whoever acquires it next, also by coming back from a wait, is told as by the lock
    itself.
    """

    _kind = binding.KIND_CONDITION
    _Parameters = _ConditionParameters
    _local = ("lock", "spin")
    _given: Any = None  # the lock that it was made with
    _lock: Any = None  # the same, or its own

    def __init__(
        self, lock: Lock | RLock | SemaphoreLock | None = None, *, spin: float | None = None
    ) -> None:
        self._start(_ConditionParameters(lock, spin))

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        if parameters.lock is not None:
            cookie, lock_cell = _which(parameters.lock)
            binding.set_condition_lock(attachment, cell + LOCK_CELLS, cookie, lock_cell)

    @classmethod
    def _make_body_anew(cls, attachment: Attachment) -> None:
        found = binding.condition_lock(attachment, LOCK_CELLS)
        attachment.clear_body()
        if found is not None:
            binding.set_condition_lock(attachment, LOCK_CELLS, *found)

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        self._cell = local.get("cell", 0)
        self._spin = local.get("spin")
        self._given = local.get("lock")
        self._bind(attachment, self._cell + LOCK_CELLS, check_spin(self._spin))
        found = binding.condition_lock(attachment, self._cell + LOCK_CELLS)
        given = None if self._given is None else _which(self._given)
        if found != given:
            expected = "its own" if found is None else "the one that it was made with"
            raise LayoutError(f"lock: expected {expected}, found {self._given!r}")
        self._lock = self._given if given is not None else self._own_lock()
        self._bind_lock(self._lock)

    def _own_lock(self) -> RLock:
        """A handle on the cell in front of the condition's."""
        assert self._membership is not None
        lock = RLock.__new__(RLock)
        lock._kinds = self._kinds
        lock._enter(self._membership.another(), {"cell": self._cell, "spin": self._spin})
        return lock

    def _is_idle(self) -> bool:
        return bool(super()._is_idle() and (self._given is not None or self._lock._is_idle()))

    def _travelling(self) -> dict[str, Any]:
        return super()._travelling() | {"lock": self._given}

    def close(self) -> None:
        """Lets go of this process's hold, and of the lock's if that is the condition's own."""
        super().close()
        if self._given is None and self._lock is not None:
            self._lock.close()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquires the lock, as that does."""
        if self._closed:  # the lock, if it is another's, is not
            raise ClosedError("this handle is closed")
        return bool(self._lock.acquire(block, timeout))

    def release(self) -> None:
        """Releases the lock, as that does."""
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        # An error that came because the lock could not be had again is not to be hidden.
        if kind is None or self._lock._is_mine():
            self._lock.release()

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Waits until ``predicate()``, which is called with the lock, is true, at most ``timeout``
        seconds; what it answered last."""
        deadline = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        return f"<{name_in_repr(self)}({self._lock!r}, {self._waiting()})>"


def _which(lock: Any) -> tuple[bytes, int]:
    return lock._open_membership().attachment.cookie, lock._cell


# --- barriers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _BarrierParameters:
    parties: int = 1
    action: Callable[[], Any] | None = None
    timeout: float | None = None
    spin: float | None = None

    def __post_init__(self) -> None:
        _check_count("parties", self.parties, 1, binding.SEMAPHORE_MAX)
        if self.action is not None and not callable(self.action):
            raise TypeError(f"action: expected a callable, found {type(self.action).__name__}")
        binding.check_timeout(self.timeout)
        check_spin(self.spin)


class Barrier(binding.BarrierCore, SmallObject):
    """A place where so many parties meet and go on together, as `multiprocessing.Barrier`.

    The party that comes last runs its own handle's ``action`` before all go on.  ``timeout`` is
    the default of this handle's ``wait()``.  A party that dies waiting breaks the barrier for the
    others: `BrokenBarrierError`, until somebody calls ``reset()``.
    """

    _kind = binding.KIND_BARRIER
    _Parameters = _BarrierParameters
    _required = ("parties",)
    _local = ("action", "timeout", "spin")

    def __init__(
        self,
        parties: int,
        action: Callable[[], Any] | None = None,
        timeout: float | None = None,
        *,
        spin: float | None = None,
    ) -> None:
        self._start(_BarrierParameters(parties, action, timeout, spin))

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        binding.format_cell(attachment, cell, cls._kind, parameters.parties)

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        return {"parties": binding.first_word(attachment, cls._kind)}

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        super()._set_up(attachment, local)
        self._action, self._timeout = local.get("action"), local.get("timeout")
        self._bind_action(self._action, self._timeout)

    def _travelling(self) -> dict[str, Any]:
        return super()._travelling() | {"action": self._action, "timeout": self._timeout}

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        where = f"{name_in_repr(self)} at {id(self):#x}"
        if self.broken:
            return f"<{where}: broken>"
        return f"<{where}: waiters={self.n_waiting}/{self.parties}>"


# --- one writer or many readers -----------------------------------------------------------------


@dataclass(frozen=True)
class _RWLockParameters:
    on_owner_death: OnOwnerDeath = "warn"
    spin: float | None = None

    def __post_init__(self) -> None:
        check_choice("on_owner_death", self.on_owner_death, ("warn", "raise"))
        check_spin(self.spin)


class RWLock(binding.RWLockCore, SmallObject, OwnedLock):
    """A lock that one writer has, or any number of readers.

    ``with rwlock.read_lock():`` and ``with rwlock.write_lock():``.  Who wants to write keeps new
    readers out until he has had his turn, so writers are not starved; the readers that came
    meanwhile all have theirs before the next writer.  Reading is cheap: a reader writes to a line
    of its own.

    It belongs to processes: a read lock that one thread took may be released by another of the
    same process.  Neither kind can be taken again by who has it, nor turned into the other.

    When a reader dies, it has let go.  When a writer dies writing, the next reader or writer is
    told with an `OwnerDiedWarning`, or with ``on_owner_death="raise"`` refused with an
    `OwnerDiedError` until somebody calls ``recover()``.  ``owner()`` and ``stats()`` are about the
    writers.
    """

    _kind = binding.KIND_RWLOCK
    _Parameters = _RWLockParameters

    def __init__(self, *, on_owner_death: OnOwnerDeath = "warn", spin: float | None = None) -> None:
        self._start(_RWLockParameters(on_owner_death, spin))

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        binding.set_lock_flags(attachment, cell, lock_flags(parameters.on_owner_death))

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        flags = binding.lock_flags(attachment, 0)
        return {"on_owner_death": read_lock_flags(flags)["on_owner_death"]}

    @property
    def readers(self) -> int:
        """How many have it for reading now."""
        return self._readers()

    @contextlib.contextmanager
    def read_lock(self) -> Iterator[Self]:
        """Holds it for reading."""
        self.acquire_read_lock()
        try:
            yield self
        finally:
            self.release_read_lock()

    @contextlib.contextmanager
    def write_lock(self) -> Iterator[Self]:
        """Holds it for writing."""
        self.acquire_write_lock()
        try:
            yield self
        finally:
            self.release_write_lock()

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        writer = self.owner()
        return f"<{name_in_repr(self)}(writer={writer and writer.pid}, readers={self.readers})>"
