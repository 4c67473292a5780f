"""A ctypes object in shared memory and a lock for it: what `Value` and `Array` give out."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar, overload

from shmipc._native import binding
from shmipc.errors import CorruptError
from shmipc.segment import Participant
from shmipc.typed import TypedMemory, raw_over

__all__ = [
    "AnyLock",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "as_asked",
]

T = TypeVar("T")
C = TypeVar("C")


class AnyLock(Protocol):
    """What ``lock=`` takes."""

    def acquire(self, block: bool = ..., timeout: float | None = ..., /) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *args: Any) -> Any: ...


def _under_lock(name: str) -> property:
    def get(self: Any) -> Any:
        self._lock.acquire()
        try:
            return getattr(self._obj, name)
        finally:
            self._lock.release()

    def put(self: Any, value: Any) -> None:
        self._lock.acquire()
        try:
            setattr(self._obj, name, value)
        finally:
            self._lock.release()

    return property(get, put, doc=f"``{name}``, read and written under the lock.")


class SynchronizedBase(Generic[C]):
    """A ctypes object in shared memory, and a lock for it."""

    def __init__(self, memory: TypedMemory, lock: Any = None) -> None:
        self._memory = memory
        self._given = lock
        self._obj = raw_over(memory)
        self._lock = memory.own_lock() if lock is None else lock
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> Any:
        return self._lock.__exit__(*args)

    def get_obj(self) -> C:
        """The ctypes object itself, which knows nothing of the lock."""
        found: C = self._obj
        return found

    def get_lock(self) -> Any:
        """The lock."""
        return self._lock

    @property
    def name(self) -> str | None:
        """The plain name, or the path; None if it is anonymous."""
        return self._memory.name

    @property
    def path(self) -> str | None:
        """Where the segment lies; None if it is anonymous, or closed."""
        return self._memory.path

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._memory.closed

    def close(self) -> None:
        """Lets go of this process's hold, and of the lock's if that is its own.  The object of
        ``get_obj()`` stays valid; closing twice does nothing."""
        self._memory.close()
        if self._given is None:
            self._lock.close()

    def unlink(self) -> None:
        """Removes its name; who is attached stays attached."""
        self._memory.unlink()

    def participants(self) -> list[Participant]:
        """The processes that use the segment: those that live, and those whose death has left
        their slot as it was."""
        return self._memory.participants()

    def __reduce__(self) -> tuple[Any, ...]:
        return _synchronized, (self._memory, self._given)

    def __repr__(self) -> str:
        shown = "closed" if self._memory.closed else f"wrapper for {self._obj}"
        return f"<{type(self).__name__} {shown}>"


class Synchronized(SynchronizedBase[Any], Generic[T]):
    """A number, or a character."""

    value: T = _under_lock("value")  # type: ignore[assignment]


class SynchronizedArray(SynchronizedBase[Any], Generic[T]):
    """An array.  What takes several of its elements holds the lock meanwhile, but iteration."""

    def __len__(self) -> int:
        return len(self._obj)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> list[T]: ...
    def __getitem__(self, i: Any) -> Any:
        with self._lock:
            return self._obj[i]

    @overload
    def __setitem__(self, i: int, value: T) -> None: ...
    @overload
    def __setitem__(self, i: slice, value: Any) -> None: ...
    def __setitem__(self, i: Any, value: Any) -> None:
        with self._lock:
            self._obj[i] = value

    def __iter__(self) -> Iterator[T]:
        return (self[i] for i in range(len(self)))


class SynchronizedString(SynchronizedArray[bytes]):
    """An array of characters."""

    value: bytes = _under_lock("value")  # type: ignore[assignment]
    raw: bytes = _under_lock("raw")  # type: ignore[assignment]


_classes: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()


def _class_for(type_: Any) -> Any:
    """The wrapper of objects of a type."""
    if issubclass(type_, ctypes.Array):
        return SynchronizedString if type_._type_ is ctypes.c_char else SynchronizedArray
    if not issubclass(type_, ctypes.Structure | ctypes.Union):
        return Synchronized
    known = _classes.get(type_)
    if known is None:
        names = [name for cls in type_.__mro__ for name, *_ in cls.__dict__.get("_fields_", ())]
        names += [name for cls in type_.__mro__ for name in cls.__dict__.get("_anonymous_", ())]
        members = {name: _under_lock(name) for name in names}
        known = _classes[type_] = type(
            "Synchronized" + type_.__name__, (SynchronizedBase,), members
        )
    return known


def _synchronized(memory: TypedMemory, lock: Any) -> Any:
    if lock is None and memory.description.lock != binding.OWN_LOCK:
        raise CorruptError("expected a lock of its own, found none")
    return _class_for(memory.type)(memory, lock)


def as_asked(memory: TypedMemory, lock: Any) -> Any:
    """The object, with the lock that was asked for; None: as it was made."""
    if lock is None and memory.description.lock == binding.NO_LOCK:
        lock = False
    if lock is False:
        return raw_over(memory)
    return _synchronized(memory, None if lock is True else lock)
