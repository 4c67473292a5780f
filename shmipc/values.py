"""Numbers, arrays and structures that processes share: without a lock, or with one of their own.

`Value`, `Array`, `RawValue` and `RawArray` are multiprocessing's, with the four doors.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, SupportsIndex, TypedDict, TypeVar, Unpack, overload

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.arena import SmallObject
from shmipc.lock import name_in_repr
from shmipc.names import Name
from shmipc.segment import check_spin
from shmipc.synchronized import (
    AnyLock,
    Synchronized,
    SynchronizedArray,
    SynchronizedString,
    as_asked,
)
from shmipc.typed import TypedMemory, Wanted, wanted_type

__all__ = [
    "Array",
    "AtomicInt64",
    "AtomicUInt64",
    "RawArray",
    "RawValue",
    "Value",
]

# --- numbers without a lock ---------------------------------------------------------------------


@dataclass(frozen=True)
class _NumberParameters:
    value: int = 0
    spin: float | None = None

    least: ClassVar[int] = -(1 << 63)
    most: ClassVar[int] = (1 << 63) - 1

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, SupportsIndex):
            raise TypeError(f"value: expected an int, found {type(self.value).__name__}")
        if not self.least <= self.value.__index__() <= self.most:
            raise OverflowError(f"value: expected {self.least} to {self.most}, found {self.value}")
        check_spin(self.spin)


class _UnsignedParameters(_NumberParameters):
    least = 0
    most = (1 << 64) - 1


class _Atomic(SmallObject):
    """What the two numbers share."""

    _Parameters: ClassVar[type[Any]] = _NumberParameters

    @classmethod
    def _format(cls, attachment: Attachment, cell: int, parameters: Any) -> None:
        binding.format_cell(attachment, cell, cls._kind, parameters.value)

    @classmethod
    def _kept(cls, attachment: Attachment) -> Any:
        return cls._Parameters(binding.first_word(attachment, cls._kind))

    def __init__(self, value: int = 0, *, spin: float | None = None) -> None:
        self._start(self._Parameters(value, spin))

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        return f"<{name_in_repr(self)}({self.load()})>"

    load: Any


class AtomicInt64(binding.NumberCore, _Atomic):
    """A signed 64-bit number that any process changes in one step, and waits for.

    Nothing of it is ever half done: a process killed in a call has changed it or not.  What does
    not fit is an `OverflowError`, and nothing has changed.  Whatever a process wrote anywhere in
    shared memory before it stored, added or exchanged is seen by who sees the number that came of
    it.
    """

    _kind = binding.KIND_INT64


class AtomicUInt64(binding.UnsignedCore, _Atomic):
    """An `AtomicInt64` without a sign: 0 to 2**64 - 1."""

    _kind = binding.KIND_UINT64
    _Parameters = _UnsignedParameters


# --- the doors of ctypes objects ----------------------------------------------------------------

T = TypeVar("T")
C = TypeVar("C")
TypeCode = str | type[Any]


class Naming(TypedDict, total=False):
    """What else may be said about a new name: see `Segment.create`."""

    mode: int
    unlink: Literal["last"] | None
    replace: Literal["dead"] | None


class _Doors:
    """A class in all but ``isinstance``: what is made is a ctypes object, or wraps one."""

    __name__: str

    def unlink(self, name: Name) -> None:
        """Removes the name; who is attached stays attached."""
        TypedMemory.unlink(name)

    def recover(self, name: Name) -> None:
        """Declares a file usable that was in use when the machine went down.  The bytes are left
        for you to judge; the lock is freed."""
        TypedMemory.recover(name)

    def __repr__(self) -> str:
        return f"<shmipc.{self.__name__}>"

    def __reduce__(self) -> str:
        return self.__name__


Asked = tuple[Wanted, bytes | None]
"""What is to be made, and its first bytes."""


def _new(asked: Asked) -> Any:
    memory = TypedMemory.__new__(TypedMemory)
    memory._start(TypedMemory._Parameters(*asked))
    return as_asked(memory, asked[0].lock)


def _create(name: Name, asked: Asked, naming: Naming) -> Any:
    return as_asked(TypedMemory.create(name, *asked, **naming), asked[0].lock)


def _open(name: Name, asked: Asked, naming: Naming) -> Any:
    return as_asked(TypedMemory.open(name, *asked, **naming), asked[0].lock)


def _attach(name: Name, wanted: Wanted, timeout: float | None, mode: int) -> Any:
    memory = TypedMemory.attach(name, timeout, mode=mode, wanted=wanted)
    return as_asked(memory, wanted.lock)


# --- one object ---------------------------------------------------------------------------------


def _value(typecode_or_type: Any, args: tuple[Any, ...], lock: Any) -> Asked:
    type_ = wanted_type(typecode_or_type)
    return Wanted.of(type_, lock), bytes(type_(*args)) if args else None


def _any_value(typecode_or_type: Any, lock: Any) -> Wanted:
    if typecode_or_type is None:
        return Wanted(lock=lock)
    return Wanted.of(wanted_type(typecode_or_type), lock)


class _Value(_Doors):
    """``Value(typecode_or_type, *args, lock=True)``: a ctypes object in shared memory and a lock
    for it, as `multiprocessing.Value`.

    ``.value``, or the fields of a structure, are read and written under the lock; ``with value:``
    or ``with value.get_lock():`` holds it for longer.  It is a `RLock` of the object's own, so a
    holder's death is told to the next; ``lock`` may be another one, or False for none, and then
    the ctypes object itself is what is made (`RawValue`).

    Types with pointers in them are a TypeError.  Whoever attaches by name says the type, unless it
    is one with a typecode, or an array of such; another one than it was made with is a
    `LayoutError`.
    """

    __name__ = "Value"

    @overload
    def __call__(self, typecode_or_type: type[C], *args: Any, lock: Literal[False]) -> C: ...
    @overload
    def __call__(
        self,
        typecode_or_type: type[ctypes._SimpleCData[T]],
        *args: Any,
        lock: AnyLock | Literal[True] = True,
    ) -> Synchronized[T]: ...
    @overload
    def __call__(
        self, typecode_or_type: TypeCode, *args: Any, lock: AnyLock | bool = True
    ) -> Any: ...
    def __call__(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        return _new(_value(typecode_or_type, args, lock))

    def create(
        self,
        name: Name,
        typecode_or_type: TypeCode,
        *args: Any,
        lock: AnyLock | bool = True,
        **naming: Unpack[Naming],
    ) -> Any:
        """Makes a new one called ``name``; ``mode``, ``unlink`` and ``replace`` as everywhere."""
        return _create(name, _value(typecode_or_type, args, lock), naming)

    def attach(
        self,
        name: Name,
        typecode_or_type: TypeCode | None = None,
        timeout: float | None = None,
        *,
        lock: AnyLock | bool | None = None,
        mode: int = 0o600,
    ) -> Any:
        """Finds the one called ``name``, by default with the lock that it was made with: that is
        to be given if it was not its own.  With ``lock=False`` without."""
        return _attach(name, _any_value(typecode_or_type, lock), timeout, mode)

    def open(
        self,
        name: Name,
        typecode_or_type: TypeCode,
        *args: Any,
        lock: AnyLock | bool | None = None,
        **naming: Unpack[Naming],
    ) -> Any:
        """Attaches to ``name``, or creates it; ``args`` count only then."""
        return _open(name, _value(typecode_or_type, args, lock), naming)


class _RawValue(_Doors):
    """``RawValue(typecode_or_type, *args)``: a ctypes object in shared memory, as
    `multiprocessing.sharedctypes.RawValue`.

    It can be passed to C, and goes to other processes without a copy.  Its memory stays as long as
    it, or anything made from it.  ``name``, ``unlink()``, ``close()`` and ``participants()`` are
    there, too, but where a structure has a field of that name.
    """

    __name__ = "RawValue"

    @overload
    def __call__(self, typecode_or_type: type[C], *args: Any) -> C: ...
    @overload
    def __call__(self, typecode_or_type: str, *args: Any) -> Any: ...
    def __call__(self, typecode_or_type: Any, *args: Any) -> Any:
        return _new(_value(typecode_or_type, args, False))

    def create(
        self, name: Name, typecode_or_type: TypeCode, *args: Any, **naming: Unpack[Naming]
    ) -> Any:
        """Makes a new one called ``name``; ``mode``, ``unlink`` and ``replace`` as everywhere."""
        return _create(name, _value(typecode_or_type, args, False), naming)

    def attach(
        self,
        name: Name,
        typecode_or_type: TypeCode | None = None,
        timeout: float | None = None,
        *,
        mode: int = 0o600,
    ) -> Any:
        """Finds the one called ``name``; if it has a lock, without it."""
        return _attach(name, _any_value(typecode_or_type, False), timeout, mode)

    def open(
        self, name: Name, typecode_or_type: TypeCode, *args: Any, **naming: Unpack[Naming]
    ) -> Any:
        """Attaches to ``name``, or creates it; ``args`` count only then."""
        return _open(name, _value(typecode_or_type, args, False), naming)


# --- arrays -------------------------------------------------------------------------------------


def _array(typecode_or_type: Any, size_or_initializer: Any, lock: Any) -> Asked:
    element = wanted_type(typecode_or_type, alone=False)
    if _is_size(size_or_initializer):
        return Wanted.of(element * size_or_initializer.__index__(), lock), None
    type_ = element * len(size_or_initializer)
    return Wanted.of(type_, lock), bytes(type_(*size_or_initializer))


def _is_size(found: Any) -> bool:
    """NumPy's arrays have an ``__index__``, too."""
    return isinstance(found, int) or (hasattr(found, "__index__") and not hasattr(found, "__len__"))


def _any_array(typecode_or_type: Any, size: int | None, lock: Any) -> Wanted:
    if typecode_or_type is None:
        if size is not None:
            raise TypeError("size: expected none without a type")
        return Wanted(array=True, lock=lock)
    of = Wanted.of(wanted_type(typecode_or_type, alone=False))
    assert of.dims is not None
    return Wanted(of.element, (size, *of.dims), True, lock)


class _Array(_Doors):
    """``Array(typecode_or_type, size_or_initializer, *, lock=True)``: a ctypes array in shared
    memory and a lock for it, as `multiprocessing.Array`.

    Elements and slices are read and written under the lock.  An array of ``c_char`` has ``value``
    and ``raw``, too.  The rest is as with `Value`.
    """

    __name__ = "Array"

    @overload
    def __call__(
        self, typecode_or_type: type[C], size_or_initializer: Any, *, lock: Literal[False]
    ) -> Any: ...
    @overload
    def __call__(
        self,
        typecode_or_type: type[ctypes.c_char],
        size_or_initializer: Any,
        *,
        lock: AnyLock | Literal[True] = True,
    ) -> SynchronizedString: ...
    @overload
    def __call__(
        self,
        typecode_or_type: type[ctypes._SimpleCData[T]],
        size_or_initializer: Any,
        *,
        lock: AnyLock | Literal[True] = True,
    ) -> SynchronizedArray[T]: ...
    @overload
    def __call__(
        self,
        typecode_or_type: TypeCode,
        size_or_initializer: Any,
        *,
        lock: AnyLock | bool = True,
    ) -> Any: ...
    def __call__(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        return _new(_array(typecode_or_type, size_or_initializer, lock))

    def create(
        self,
        name: Name,
        typecode_or_type: TypeCode,
        size_or_initializer: Any,
        *,
        lock: AnyLock | bool = True,
        **naming: Unpack[Naming],
    ) -> Any:
        """Makes a new one called ``name``; ``mode``, ``unlink`` and ``replace`` as everywhere."""
        return _create(name, _array(typecode_or_type, size_or_initializer, lock), naming)

    def attach(
        self,
        name: Name,
        typecode_or_type: TypeCode | None = None,
        size: int | None = None,
        timeout: float | None = None,
        *,
        lock: AnyLock | bool | None = None,
        mode: int = 0o600,
    ) -> Any:
        """Finds the one called ``name``; the type is an element's.  The lock as with `Value`."""
        return _attach(name, _any_array(typecode_or_type, size, lock), timeout, mode)

    def open(
        self,
        name: Name,
        typecode_or_type: TypeCode,
        size_or_initializer: Any,
        *,
        lock: AnyLock | bool | None = None,
        **naming: Unpack[Naming],
    ) -> Any:
        """Attaches to ``name``, or creates it; if it is there, only an initializer's length
        counts."""
        return _open(name, _array(typecode_or_type, size_or_initializer, lock), naming)


class _RawArray(_Doors):
    """``RawArray(typecode_or_type, size_or_initializer)``: a ctypes array in shared memory, as
    `multiprocessing.sharedctypes.RawArray`.  The rest is as with `RawValue`."""

    __name__ = "RawArray"

    def __call__(self, typecode_or_type: TypeCode, size_or_initializer: Any) -> Any:
        return _new(_array(typecode_or_type, size_or_initializer, False))

    def create(
        self,
        name: Name,
        typecode_or_type: TypeCode,
        size_or_initializer: Any,
        **naming: Unpack[Naming],
    ) -> Any:
        """Makes a new one called ``name``; ``mode``, ``unlink`` and ``replace`` as everywhere."""
        return _create(name, _array(typecode_or_type, size_or_initializer, False), naming)

    def attach(
        self,
        name: Name,
        typecode_or_type: TypeCode | None = None,
        size: int | None = None,
        timeout: float | None = None,
        *,
        mode: int = 0o600,
    ) -> Any:
        """Finds the one called ``name``; if it has a lock, without it."""
        return _attach(name, _any_array(typecode_or_type, size, False), timeout, mode)

    def open(
        self,
        name: Name,
        typecode_or_type: TypeCode,
        size_or_initializer: Any,
        **naming: Unpack[Naming],
    ) -> Any:
        """Attaches to ``name``, or creates it; if it is there, only an initializer's length
        counts."""
        return _open(name, _array(typecode_or_type, size_or_initializer, False), naming)


Value = _Value()
Array = _Array()
RawValue = _RawValue()
RawArray = _RawArray()
