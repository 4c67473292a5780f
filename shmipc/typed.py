"""ctypes objects in shared memory: which types can lie there, and how they are written down."""

from __future__ import annotations

import ctypes
import re
import sys
import weakref
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.described import DescribedMemory, Description
from shmipc.errors import CorruptError, LayoutError
from shmipc.lock import Lock, RLock, SemaphoreLock
from shmipc.segment import MAX_SIZE

__all__ = ["TypedMemory", "ValueLock", "Wanted", "raw_over", "wanted_type"]

CType = Any  # a class of ctypes; its own stubs have no public name for that

TYPECODES: dict[str, CType] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
    "?": ctypes.c_bool,
    "g": ctypes.c_longdouble,
}
POINTERS = "zZPOX"  # of ctypes' own codes: they mean something in one process only

_SimpleCData: CType = ctypes.c_int.__mro__[1]
_CFuncPtr: CType = type(ctypes.pythonapi.Py_IsInitialized).__mro__[1]
_Pointer: CType = ctypes.POINTER(ctypes.c_int).__mro__[1]


# --- types --------------------------------------------------------------------------------------


def wanted_type(typecode_or_type: Any, *, alone: bool = True) -> CType:
    """A ctypes type that can be shared; TypeError if it cannot.  ``alone``: not as an element."""
    found = typecode_or_type
    if isinstance(found, str):
        if found not in TYPECODES:
            known = " ".join(TYPECODES)
            raise TypeError(f"typecode_or_type: expected one of {known} or a type, found {found!r}")
        return TYPECODES[found]
    known_types = (_SimpleCData, ctypes.Array, ctypes.Structure, ctypes.Union)
    if not isinstance(found, type) or not issubclass(found, (*known_types, _Pointer, _CFuncPtr)):
        raise TypeError(f"typecode_or_type: expected a typecode or a ctypes type, found {found!r}")
    text = text_of(found)
    # ctypes gives a subclass of such a number the machine's order again.
    if alone and text[0] in "<>" and issubclass(found, _SimpleCData):
        raise TypeError(
            f"{found.__name__}: expected the machine's own byte order; in an array or a structure "
            "it may be another"
        )
    return found


def text_of(type_: CType) -> str:
    """The type as text: equal for types that mean the same bytes the same way."""
    if issubclass(type_, ctypes.Array):
        element, dims = _taken_apart(type_)
        return text_of(element) + "".join(f"[{n}]" for n in dims)
    if issubclass(type_, ctypes.Structure | ctypes.Union):
        return _text_of_fields(type_)
    code = getattr(type_, "_type_", None)
    if not issubclass(type_, _SimpleCData) or not isinstance(code, str) or code in POINTERS:
        raise TypeError(
            f"{type_.__name__}: expected a type without pointers, which mean nothing in another "
            "process"
        )
    return _byte_order(type_) + code


def _byte_order(type_: CType) -> str:
    """Empty for the machine's own."""
    little, big = getattr(type_, "__ctype_le__", None), getattr(type_, "__ctype_be__", None)
    if little is big:
        return ""
    other, mark = (big, ">") if sys.byteorder == "little" else (little, "<")
    return mark if type_ is other else ""


def _text_of_fields(type_: CType) -> str:
    fields = []
    for cls in reversed(type_.__mro__):
        for name, field, *bits in cls.__dict__.get("_fields_", ()):
            where = cls.__dict__[name]
            width = f":{where.size >> 16}+{where.size & 0xFFFF}" if bits else ""
            fields.append(f"{name}:{text_of(field)}@{where.offset}{width}")
    if not hasattr(type_, "_fields_"):
        raise TypeError(f"{type_.__name__}: expected a structure with fields")
    word = "union" if issubclass(type_, ctypes.Union) else "struct"
    return f"{word}{{{','.join(fields)},{ctypes.sizeof(type_)}}}"


def _taken_apart(type_: CType) -> tuple[CType, tuple[int, ...]]:
    """What an array is of in the end, and how many of them."""
    dims = []
    while issubclass(type_, ctypes.Array):
        if not hasattr(type_, "_length_"):
            raise TypeError(f"{type_.__name__}: expected an array of some length")
        dims.append(type_._length_)
        type_ = type_._type_
    return type_, tuple(dims)


def _put_together(element: CType, dims: tuple[int, ...]) -> CType:
    for length in reversed(dims):
        element = element * length
    return element


_TEXT = re.compile(r"(.*?)((?:\[\d{1,18}\])*)", re.DOTALL)


def _split(text: str) -> tuple[str, tuple[int, ...]]:
    """The same of a text."""
    match = _TEXT.fullmatch(text)
    assert match is not None
    return match[1], tuple(map(int, re.findall(r"\d+", match[2])))


# --- what is asked of a segment -----------------------------------------------------------------


class Wanted(NamedTuple):
    """What a caller says about a type and a lock; None is anything."""

    element: CType = None
    dims: tuple[int | None, ...] | None = None
    array: bool = False
    lock: Any = None

    @classmethod
    def of(cls, type_: CType, lock: Any = None) -> Wanted:
        """All of it."""
        element, dims = _taken_apart(type_)
        return cls(element, dims, bool(dims), lock)

    @property
    def type(self) -> CType:
        assert self.dims is not None
        return _put_together(self.element, self.dims)  # type: ignore[arg-type]

    def __str__(self) -> str:
        element = "a type" if self.element is None else text_of(self.element)
        dims = (None,) if self.dims is None and self.array else self.dims or ()
        return element + "".join("[any]" if n is None else f"[{n}]" for n in dims)

    def fits(self, element: str, dims: tuple[int, ...]) -> bool:
        if self.element is not None and text_of(self.element) != element:
            return False
        if self.dims is None:
            return bool(dims) or not self.array
        return len(dims) == len(self.dims) and all(
            mine in (None, found) for mine, found in zip(self.dims, dims, strict=True)
        )

    def resolve(self, found: Description, shown: str) -> CType:
        """The type that is there, if it is one that is wanted."""
        text = found.text.decode("utf-8", "backslashreplace")
        element_text, dims = _split(text)
        if not self.fits(element_text, dims):
            raise LayoutError(f"{shown}: expected the type {self}, found {text}")
        element = self.element or _simple(element_text)
        if element is None:
            raise LayoutError(f"{shown}: expected to be told the type, found {text}")
        size = ctypes.sizeof(element) * prod(dims)
        if size != found.size:
            raise CorruptError(f"{shown}: expected {size} bytes for {text}, found {found.size}")
        return _put_together(element, dims)

    def check_lock(self, found: Description, shown: str) -> None:
        """That the lock is the one that it was made with, or none is wanted."""
        expected = {
            binding.NO_LOCK: "none",
            binding.OWN_LOCK: "its own",
            binding.SHARED_LOCK: "the one that it was made with",
            binding.FOREIGN_LOCK: "the one that it was made with",
        }[found.lock]
        own = self.lock is None or self.lock is True
        if found.lock == binding.NO_LOCK:
            good = self.lock is None
        elif found.lock == binding.OWN_LOCK:
            good = own
        elif found.lock == binding.SHARED_LOCK:
            good = not own and lock_facts(self.lock)[1:] == (found.lock_cookie, found.lock_cell)
        else:
            good = not own
        if not good and self.lock is not False:
            raise LayoutError(f"{shown}: lock: expected {expected}, found {self.lock!r}")


def _simple(text: str) -> CType:
    type_ = TYPECODES.get(text[-1:])
    for candidate in (
        type_,
        *(getattr(type_, f"__ctype_{order}__", None) for order in ("le", "be")),
    ):
        if candidate is not None and text_of(candidate) == text:
            return candidate
    return None


def lock_facts(lock: Any) -> tuple[int, bytes, int]:
    """How a lock that was asked for stands in a description."""
    if lock is False:
        return binding.NO_LOCK, bytes(16), 0
    if lock is True or lock is None:
        return binding.OWN_LOCK, bytes(16), 0
    if isinstance(lock, ValueLock | Lock | RLock | SemaphoreLock):
        return binding.SHARED_LOCK, lock._open_membership().attachment.cookie, lock._cell
    return binding.FOREIGN_LOCK, bytes(16), 0


def check_lock_object(lock: Any) -> None:
    if lock not in (True, False, None) and not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")


# --- the memory ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _TypedParameters:
    wanted: Wanted
    initial: bytes | None = None

    @property
    def description(self) -> Description:
        type_ = self.wanted.type
        lock = lock_facts(self.wanted.lock)
        return Description(
            binding.KIND_CTYPES, ctypes.sizeof(type_), *lock, text_of(type_).encode()
        )

    def __post_init__(self) -> None:
        check_lock_object(self.wanted.lock)
        dims = self.wanted.dims
        if self.wanted.element is not None and dims is not None and None not in dims:
            size = ctypes.sizeof(self.wanted.type)
            if size > MAX_SIZE:
                raise ValueError(f"expected at most {MAX_SIZE} bytes, found {size}")


class TypedMemory(DescribedMemory):
    """The bytes of a ctypes object."""

    _kind = binding.KIND_CTYPES
    _Parameters = _TypedParameters
    _local = ("wanted",)

    type: CType

    @classmethod
    def _check(cls, expected: dict[str, Any], shown: str, attachment: Attachment) -> None:
        super()._check({}, shown, attachment)
        found = cls._described(attachment)
        wanted: Wanted = expected["wanted"]
        wanted.resolve(found, shown)
        wanted.check_lock(found, shown)

    @classmethod
    def _understand(cls, found: Description, shown: str) -> dict[str, Any]:
        return {}

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        super()._set_up(attachment, local)
        self.type = local["wanted"].resolve(self.description, attachment.shown)

    def _travelling(self) -> dict[str, Any]:
        return super()._travelling() | {"wanted": Wanted.of(self.type, False)}

    def own_lock(self) -> ValueLock:
        """A handle on the lock that is the object's own."""
        lock = ValueLock.__new__(ValueLock)
        lock._memory = self
        lock._enter(self.another_hold(), {"cell": self._cell + self.description.lock_at})
        return lock


class ValueLock(RLock):
    """The `RLock` that a value or an array has of its own."""

    _kinds = (binding.KIND_CTYPES, binding.KIND_ARENA)
    _memory: TypedMemory | None = None  # as long as there is a handle, the cell is this lock's

    def _travelling(self) -> dict[str, Any]:
        if self._memory is not None:
            self._memory._travelling()
        return super()._travelling()


# --- objects over it ----------------------------------------------------------------------------


def raw_over(memory: TypedMemory) -> Any:
    """The ctypes object itself, which keeps its memory."""
    raw = _class_of(memory.type).from_buffer(memory)
    raw._shmipc_memory = memory
    return raw


_classes: weakref.WeakValueDictionary[CType, CType] = weakref.WeakValueDictionary()


def _class_of(type_: CType) -> CType:
    """A subclass that goes to other processes without a copy."""
    known = _classes.get(type_)
    if known is None:
        known = _classes[type_] = _new_class(type_)
    return known


def _new_class(type_: CType) -> CType:
    fields = {name for cls in type_.__mro__ for name, *_ in cls.__dict__.get("_fields_", ())}
    members: dict[str, Any] = {
        name: value
        for name, value in vars(_Raw).items()
        if name in _Raw.given and name not in fields
    }
    if issubclass(type_, _SimpleCData):
        members["__repr__"] = lambda self: repr(type_.from_buffer_copy(self))
    members |= {
        "__module__": type_.__module__,
        "__qualname__": type_.__qualname__,
        "__doc__": type_.__doc__,
        "__copy__": lambda self: type_.from_buffer_copy(self),
        "__deepcopy__": lambda self, memo: type_.from_buffer_copy(self),
        "__reduce__": lambda self: (raw_over, (self._shmipc_memory,)),
        "__reduce_ex__": lambda self, protocol: self.__reduce__(),
    }
    return type(type_)(type_.__name__, (type_,), members)


class _Raw:
    """What a ctypes object in shared memory has beside its type's own, unless that is a field."""

    given = ("name", "path", "closed", "close", "unlink", "participants")

    _shmipc_memory: TypedMemory

    @property
    def name(self) -> str | None:
        """The plain name, or the path; None if it is anonymous."""
        return self._shmipc_memory.name

    @property
    def path(self) -> str | None:
        """Where the segment lies; None if it is anonymous, or closed."""
        return self._shmipc_memory.path

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._shmipc_memory.closed

    def close(self) -> None:
        """Lets go of this process's hold; the object stays valid."""
        self._shmipc_memory.close()

    def unlink(self) -> None:
        """Removes its name; who is attached stays attached."""
        self._shmipc_memory.unlink()

    def participants(self) -> Any:
        """The processes that use the segment."""
        return self._shmipc_memory.participants()
