"""NumPy arrays in shared memory.  Imported when it is asked for: nothing else needs NumPy."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal, Self, SupportsIndex, TypedDict, Unpack, cast

import numpy as np

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.described import DescribedMemory, Description, DualUnlink
from shmipc.errors import CorruptError
from shmipc.names import Name
from shmipc.segment import MAX_SIZE, Participant, check_choice

__all__ = ["SharedArray"]

Order = Literal["C", "F"]
Access = Literal["r", "rw"]
DType = np.dtype[Any]
Shape = tuple[int, ...]


# --- dtypes as text -----------------------------------------------------------------------------
#
# In JSON: a plain one as NumPy writes it ("<f8"), an array as [dtype, shape], a structure as
# {"fields": [[name, dtype, offset], ...], "size": bytes}.  A field with a title has that, too.

_PLAIN = re.compile(r"[<>|=][?biufcmMSUV]\d{1,12}(\[\d{0,9}[a-zA-Z]{1,7}\])?")


def _written(dtype: DType) -> Any:
    if dtype.subdtype is not None:
        return [_written(dtype.subdtype[0]), list(dtype.subdtype[1])]
    if dtype.names is None:
        return dtype.str
    fields = []
    for name in dtype.names:
        field, offset, *title = cast(Any, dtype.fields)[name]
        fields.append([name, _written(field), offset, *title])
    return {"fields": fields, "size": dtype.itemsize}


def _read_dtype(written: Any) -> DType:
    """The other way; any error if it is none of ours."""
    if isinstance(written, str):
        if not _PLAIN.fullmatch(written):
            raise ValueError(f"no dtype is written {written!r}")
        return np.dtype(written)
    if isinstance(written, list):
        base, shape = written
        return cast(DType, np.dtype((_read_dtype(base), tuple(map(operator.index, shape)))))
    fields: list[Any] = written["fields"]
    facts: dict[str, Any] = {
        "names": [field[0] for field in fields],
        "formats": [_read_dtype(field[1]) for field in fields],
        "offsets": [operator.index(field[2]) for field in fields],
        "itemsize": operator.index(written["size"]),
    }
    titles = [field[3] if len(field) > 3 else None for field in fields]
    if any(title is not None for title in titles):
        if not all(title is None or isinstance(title, str) for title in titles):
            raise ValueError("a title is text")
        facts["titles"] = titles
    whole: DType = np.dtype(cast(Any, facts))
    return whole


def _check_dtype(dtype: DType) -> None:
    """That it means the same in another process."""
    if dtype.hasobject:
        raise TypeError(f"dtype: expected one without Python objects, found {dtype}")
    try:
        same = _read_dtype(json.loads(json.dumps(_written(dtype)))) == dtype
    except (ValueError, TypeError, KeyError):
        same = False
    if not same:
        raise TypeError(f"dtype: expected one of NumPy's own, found {dtype!r}")


# --- the memory ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ArrayParameters:
    shape: Any = ()
    dtype: Any = float
    order: Order = "C"
    access: Access = "rw"

    initial: ClassVar[bytes | None] = None

    def __post_init__(self) -> None:
        check_choice("order", self.order, ("C", "F"))
        check_choice("access", self.access, ("r", "rw"))
        shape = self.shape if isinstance(self.shape, Iterable) else (self.shape,)
        lengths = tuple(map(operator.index, shape))
        if any(length < 0 for length in lengths):
            raise ValueError(f"shape: expected no negative lengths, found {lengths}")
        # NumPy's own rules: a dtype that is an array adds its shape, "S" becomes "S1".
        one = np.empty((0,), self.dtype)
        _check_dtype(one.dtype)
        lengths += one.shape[1:]
        if prod(lengths) * one.itemsize > MAX_SIZE:
            raise ValueError(f"shape: expected at most {MAX_SIZE} bytes, found {lengths}")
        np.broadcast_to(np.zeros((), one.dtype), lengths)  # not too many dimensions
        object.__setattr__(self, "shape", lengths)
        object.__setattr__(self, "dtype", one.dtype)
        if len(lengths) < 2:
            object.__setattr__(self, "order", "C")

    @property
    def text(self) -> bytes:
        facts = {"shape": self.shape, "order": self.order, "dtype": _written(self.dtype)}
        return json.dumps(facts, separators=(",", ":")).encode()

    @property
    def description(self) -> Description:
        size = prod(self.shape) * self.dtype.itemsize
        return Description(binding.KIND_NDARRAY, size, binding.NO_LOCK, bytes(16), 0, self.text)


class _ArrayMemory(DescribedMemory):
    """The bytes of an array."""

    _kind = binding.KIND_NDARRAY
    _Parameters = _ArrayParameters
    _local = ("access",)

    shape: Shape
    dtype: DType
    order: Order

    @classmethod
    def _understand(cls, found: Description, shown: str) -> dict[str, Any]:
        """Only what shmipc writes is read: what is there, written anew, gives the same text."""
        try:
            facts = json.loads(found.text)
            dtype = _read_dtype(facts["dtype"])
            read = _ArrayParameters(tuple(facts["shape"]), dtype, facts["order"])
            good = read.text == found.text and read.description.size == found.size
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError):
            good = False
        if not good:
            raise CorruptError(
                f"{shown}: expected the description of an array of {found.size} bytes, found "
                f"{found.text[:200]!r}"
            )
        return {"shape": read.shape, "dtype": read.dtype, "order": read.order}

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        self._access = local.get("access", "rw")
        super()._set_up(attachment, local)
        facts = self._understand(self.description, attachment.shown)
        self.shape, self.dtype, self.order = facts["shape"], facts["dtype"], facts["order"]

    def _travelling(self) -> dict[str, Any]:
        return super()._travelling() | {"access": self._access}


def _memory_behind(array: Any) -> _ArrayMemory | None:
    """What an array is a view on, if that is shared."""
    while array is not None and not isinstance(array, _ArrayMemory):
        array = getattr(array, "base", None)
    return array


# --- the array ----------------------------------------------------------------------------------


class Naming(TypedDict, total=False):
    """What else may be said about a new name: see `Segment.create`."""

    mode: int
    unlink: Literal["last"] | None
    replace: Literal["dead"] | None


def _plain(result: Any) -> Any:
    """What shares nothing is an ordinary array."""
    if isinstance(result, SharedArray) and _memory_behind(result) is None:
        return result.view(np.ndarray)
    if type(result) in (tuple, list):
        return type(result)(map(_plain, result))
    return result


def _of_an_array(name: str) -> Any:
    """A method of `numpy.ndarray` whose result may share nothing."""
    method: Callable[..., Any] = getattr(np.ndarray, name)

    def call(self: SharedArray, *args: Any, **kwargs: Any) -> Any:
        return _plain(method(self, *args, **kwargs))

    call.__name__, call.__doc__ = name, method.__doc__
    return call


_GET: Callable[..., Any] = np.ndarray.__getitem__


class SharedArray(np.ndarray[Any, Any]):
    """``SharedArray(shape, dtype=float, *, order="C")``: a NumPy array in shared memory, of zeros.

    It goes to other processes without a copy, and so do its views; what is calculated from it is
    an ordinary array.  It keeps its memory as long as there is a view.  Nothing has to be locked to
    read it; who writes while others read decides what they may see.

    Python objects cannot lie in it.  By name, shape and dtype are known from the segment;
    ``attach(name, access="r")`` gives one that can only be read.
    """

    __array_priority__ = -1.0  # what is joined together from several is an ordinary array

    def __new__(
        cls, shape: SupportsIndex | Iterable[int], dtype: Any = float, *, order: Order = "C"
    ) -> Self:
        memory = _ArrayMemory.__new__(_ArrayMemory)
        memory._start(_ArrayParameters(shape, dtype, order))
        return cls._over(memory)

    @classmethod
    def _over(cls, memory: _ArrayMemory) -> Self:
        return super().__new__(
            cls, memory.shape, memory.dtype, buffer=cast(Any, memory), order=memory.order
        )

    @classmethod
    def create(
        cls,
        name: Name,
        shape: SupportsIndex | Iterable[int],
        dtype: Any = float,
        *,
        order: Order = "C",
        **naming: Unpack[Naming],
    ) -> Self:
        """Makes a new one called ``name``; ``mode``, ``unlink`` and ``replace`` as everywhere."""
        return cls._over(_ArrayMemory.create(name, shape, dtype, order, **naming))

    @classmethod
    def attach(
        cls,
        name: Name,
        timeout: float | None = None,
        *,
        access: Access = "rw",
        mode: int = 0o600,
    ) -> Self:
        """Finds the one called ``name``, with its shape, dtype and order."""
        return cls._over(_ArrayMemory.attach(name, timeout, mode=mode, access=access))

    @classmethod
    def open(
        cls,
        name: Name,
        shape: SupportsIndex | Iterable[int],
        dtype: Any = None,
        *,
        order: Order | None = None,
        access: Access = "rw",
        **naming: Unpack[Naming],
    ) -> Self:
        """Attaches to ``name``, or creates it.  What is given and does not agree with what is there
        is a `LayoutError`."""
        said = {"dtype": dtype, "order": order}
        given = {key: value for key, value in said.items() if value is not None}
        return cls._over(_ArrayMemory.open(name, shape, access=access, **given, **naming))

    @classmethod
    def recover(cls, name: Name) -> None:
        """Declares a file usable that was in use when the machine went down.  The bytes are left
        for you to judge."""
        _ArrayMemory.recover(name)

    def _shared(self) -> _ArrayMemory:
        memory = _memory_behind(self)
        if memory is None:
            raise AttributeError("this array shares nothing")
        return memory

    unlink = DualUnlink(_ArrayMemory, _shared)

    @property
    def name(self) -> str | None:
        """The plain name, or the path; None if it is anonymous."""
        return self._shared().name

    @property
    def path(self) -> str | None:
        """Where the segment lies; None if it is anonymous, or closed."""
        return self._shared().path

    @property
    def closed(self) -> bool:
        """Whether it was closed, or another view on the same memory."""
        return self._shared().closed

    def close(self) -> None:
        """Lets go of this process's hold, which an array and its views have together; they stay
        valid."""
        self._shared().close()

    def participants(self) -> list[Participant]:
        """The processes that use the segment: those that live, and those whose death has left
        their slot as it was."""
        return self._shared().participants()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        memory = _memory_behind(self)
        start = self.__array_interface__["data"][0]
        if memory is None or not memory.address <= start <= memory.address + memory.size:
            return self.view(np.ndarray).__reduce_ex__(protocol)
        offset = start - memory.address
        facts = (self.dtype, self.shape, self.strides, offset, self.flags.writeable)
        return _array_again, (type(self), memory, *facts)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    # What shares nothing is an ordinary array.

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:
            return array
        return array[()] if return_scalar or array.ndim == 0 else array.view(np.ndarray)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _plain(super().__array_function__(func, types, args, kwargs))

    def __getitem__(self, key: Any) -> Any:
        result = _GET(self, key)
        # A copy is NumPy's own array, and perhaps this class over it.
        if isinstance(result, SharedArray) and type(result.base) is np.ndarray:
            return _plain(result)
        return result

    __copy__ = _of_an_array("__copy__")
    __deepcopy__ = _of_an_array("__deepcopy__")
    argmax = _of_an_array("argmax")
    argmin = _of_an_array("argmin")
    argpartition = _of_an_array("argpartition")
    argsort = _of_an_array("argsort")
    astype = _of_an_array("astype")
    byteswap = _of_an_array("byteswap")
    choose = _of_an_array("choose")
    compress = _of_an_array("compress")
    conj = _of_an_array("conj")
    conjugate = _of_an_array("conjugate")
    copy = _of_an_array("copy")
    cumprod = _of_an_array("cumprod")
    cumsum = _of_an_array("cumsum")
    dot = _of_an_array("dot")
    flatten = _of_an_array("flatten")
    nonzero = _of_an_array("nonzero")
    ravel = _of_an_array("ravel")
    repeat = _of_an_array("repeat")
    reshape = _of_an_array("reshape")
    round = _of_an_array("round")
    searchsorted = _of_an_array("searchsorted")
    take = _of_an_array("take")
    trace = _of_an_array("trace")


def _array_again(
    cls: type[SharedArray],
    memory: _ArrayMemory,
    dtype: DType,
    shape: Shape,
    strides: Shape,
    offset: int,
    writeable: bool,
) -> SharedArray:
    """In the receiver; NumPy sees to it that it lies within the memory."""
    array = np.ndarray.__new__(cls, shape, dtype, cast(Any, memory), offset, strides)
    array.flags.writeable = writeable
    return array
