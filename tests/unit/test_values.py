"""Value, Array, RawValue, RawArray: as multiprocessing's (the same code runs against both), and
what only shmipc's have."""

from __future__ import annotations

import copy
import ctypes
import gc
import multiprocessing.sharedctypes
import pickle
import threading
from typing import Any

import pytest
from helpers import Forked, file_of, in_child, in_thread
from isolation import isolated

import shmipc
from shmipc import (
    Array,
    ClosedError,
    LayoutError,
    Lock,
    RawArray,
    RawValue,
    RLock,
    SemaphoreLock,
    Value,
)
from shmipc.synchronized import Synchronized, SynchronizedArray, SynchronizedString

# The room that multiprocessing's heap keeps for good is there before any test.
multiprocessing.sharedctypes.RawArray("b", 1 << 16)

each_library = pytest.mark.parametrize("library", [shmipc, multiprocessing.sharedctypes])


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double * 2)]


class Named(Point):
    _fields_ = [("name", ctypes.c_char * 8), ("low", ctypes.c_uint, 3), ("high", ctypes.c_uint, 5)]


class Either(ctypes.Union):
    _fields_ = [("whole", ctypes.c_uint32), ("bytes", ctypes.c_uint8 * 4)]


class Swapped(ctypes.BigEndianStructure):
    _fields_ = [("x", ctypes.c_int)]


class Pointing(ctypes.Structure):
    _fields_ = [("p", Point * 2), ("q", ctypes.POINTER(ctypes.c_int))]


CODES: dict[str, Any] = {
    "c": b"x",
    "u": "x",
    "b": -5,
    "B": 250,
    "h": -300,
    "H": 60000,
    "i": -70000,
    "I": 1 << 31,
    "l": -(1 << 40),
    "L": 1 << 40,
    "q": -(1 << 62),
    "Q": (1 << 64) - 1,
    "f": 0.5,
    "d": 1e300,
}


# --- as multiprocessing's -----------------------------------------------------------------------


@each_library
@pytest.mark.parametrize("code", CODES)
def test_a_value_of_every_typecode(library: Any, code: str) -> None:
    value = library.Value(code, CODES[code])
    assert value.value == CODES[code]
    value.value = type(CODES[code])() if code not in "cu" else CODES[code]
    assert library.RawValue(code, CODES[code]).value == CODES[code]
    assert library.Value(code, lock=False).value in (0, b"\0", "\0")
    array = library.Array(code, [CODES[code]] * 3)
    assert list(array) == [CODES[code]] * 3


@each_library
def test_a_value(library: Any) -> None:
    value = library.Value("i", 5)
    assert value.value == 5
    value.value += 1
    assert value.get_obj().value == 6
    assert repr(value) == "<Synchronized wrapper for c_int(6)>"
    assert value.acquire() is True
    assert value.acquire(False) is True  # an RLock
    value.release()
    value.release()
    with value, value.get_lock():
        value.value = 9
    with pytest.raises(TypeError):
        value.value = "text"
    assert value.value == 9
    assert ctypes.c_int.from_address(ctypes.addressof(value.get_obj())).value == 9


@each_library
def test_an_array(library: Any) -> None:
    array = library.Array("i", 5)
    assert len(array) == 5
    assert array[:] == [0] * 5
    array[1:4] = [1, 2, 3]
    array[-1] = 7
    assert array[1:] == [1, 2, 3, 7]
    assert array[::-2] == [7, 2, 0]
    assert list(array) == [0, 1, 2, 3, 7]
    assert 3 in array
    with pytest.raises(IndexError):
        array[5]
    with pytest.raises(IndexError):
        array[5] = 1
    with pytest.raises(ValueError, match="size"):
        array[1:3] = [1]
    with array.get_lock():
        array[0] = array[1] + 1
    assert array.get_obj()[0] == 2
    assert repr(array).startswith("<SynchronizedArray wrapper for <")
    assert "c_int_Array_5 object at 0x" in repr(array)


@each_library
def test_an_array_of_characters(library: Any) -> None:
    text = library.Array("c", b"hello")
    assert (text.value, text.raw, text[1:3], text[0]) == (b"hello", b"hello", b"el", b"h")
    text.value = b"abc"
    assert (text.value, text.raw) == (b"abc", b"abc\0o")
    text.raw = b"12345"
    assert list(text) == [b"1", b"2", b"3", b"4", b"5"]
    with pytest.raises(ValueError, match="long"):
        text.value = b"too long"
    assert repr(text).startswith("<SynchronizedString wrapper for <")
    raw = library.RawArray("c", 4)
    raw.value = b"ab"
    assert raw.raw == b"ab\0\0"


@each_library
def test_a_structure(library: Any) -> None:
    point = library.Value(Point, 3, (1.5, 2.5))
    assert (point.x, list(point.y)) == (3, [1.5, 2.5])
    point.x += 1
    point.y[1] = 7.5
    assert (point.get_obj().x, point.get_obj().y[1]) == (4, 7.5)
    assert type(point).__name__ == "SynchronizedPoint"
    assert isinstance(point.get_obj(), Point)
    points = library.Array(Point, [(1, (2, 3)), (4, (5, 6))])
    assert [(p.x, p.y[0]) for p in points] == [(1, 2.0), (4, 5.0)]
    points[1].x = 9
    assert points[1].x == 9


@each_library
def test_unions_and_arrays_of_arrays(library: Any) -> None:
    either = library.RawValue(Either, 0x01020304)
    assert sorted(either.bytes) == [1, 2, 3, 4]
    rows = library.RawArray(ctypes.c_int * 3, 2)
    rows[1][2] = 5
    assert [list(row) for row in rows] == [[0, 0, 0], [0, 0, 5]]
    square = library.Value(ctypes.c_int * 3)
    square[0] = 4
    assert square[:] == [4, 0, 0]


@each_library
def test_a_raw_object_is_one_of_ctypes(library: Any) -> None:
    raw = library.RawArray("d", [1, 2, 3])
    assert isinstance(raw, ctypes.Array)
    assert isinstance(raw, ctypes.c_double * 3)
    assert memoryview(raw).cast("B").nbytes == ctypes.sizeof(raw) == 24
    view = memoryview(raw).cast("B").cast("d")
    view[1] = 8
    assert raw[:] == [1, 8, 3]
    number = library.RawValue(ctypes.c_int, 7)
    assert repr(number) == "c_int(7)"
    ctypes.memset(ctypes.addressof(number), 0, 4)
    assert number.value == 0
    pointer = ctypes.pointer(number)
    pointer[0] = 12
    assert number.value == 12
    strchr = ctypes.CDLL(None).strlen
    strchr.argtypes = [ctypes.POINTER(ctypes.c_char)]
    assert strchr(library.RawArray("c", b"abc\0")) == 3


@each_library
def test_another_lock(library: Any) -> None:
    for lock in (Lock(), RLock(), SemaphoreLock(), threading.Lock(), multiprocessing.Lock()):
        value = library.Value("i", 1, lock=lock)
        assert value.get_lock() is lock
        with value:
            assert not in_thread(lambda lock=lock: lock.acquire(False))()
        assert library.Array("i", 3, lock=lock).get_lock() is lock
        assert value.value == 1


@each_library
def test_no_lock(library: Any) -> None:
    assert isinstance(library.Value("i", lock=False), ctypes.c_int)
    assert isinstance(library.Array("i", 3, lock=False), ctypes.Array)
    assert library.Value("i", lock=None).get_lock()


@each_library
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda m: m.Value("i", lock="nonsense"), AttributeError),
        (lambda m: m.Array("i", 3, lock=7), AttributeError),
        (lambda m: m.Value("z"), TypeError),
        (lambda m: m.Value(""), TypeError),
        (lambda m: m.Value(int), TypeError),
        (lambda m: m.Value("i", "text"), TypeError),
        (lambda m: m.Value("i", 1, 2), TypeError),
        (lambda m: m.Array("i", -1), ValueError),
        (lambda m: m.Array("i", 2.5), TypeError),
        (lambda m: m.Array("i", ["a"]), TypeError),
        (lambda m: m.Array("i", 1 << 62), OverflowError),
        (lambda m: m.Value(), TypeError),
        (lambda m: m.Array("i"), TypeError),
    ],
)
def test_bad_arguments(library: Any, make: Any, error: Any) -> None:
    with pytest.raises(error):
        make(library)


@each_library
def test_an_empty_array(library: Any) -> None:
    assert library.Array("i", 0)[:] == library.RawArray("i", [])[:] == []


@isolated()
def test_many_who_count_under_the_lock() -> None:
    value, array = Value("l"), Array("l", 2)

    def count() -> None:
        for _ in range(500):
            with value.get_lock():
                value.value += 1
            with array:
                array[0] += 1
                array[1] = array[0]

    children = [Forked(count) for _ in range(3)]
    for child in children:
        child.result()
    assert (value.value, array[:]) == (1500, [1500, 1500])


# --- what cannot be shared ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        ctypes.c_char_p,
        ctypes.c_wchar_p,
        ctypes.c_void_p,
        ctypes.py_object,
        ctypes.POINTER(ctypes.c_int),
        ctypes.CFUNCTYPE(ctypes.c_int),
        ctypes.c_char_p * 3,
        Pointing,
        Pointing * 2,
        ctypes.Structure,
        ctypes.Array,
        ctypes.c_int.__ctype_be__,
    ],
    ids=lambda t: t.__name__,
)
def test_what_means_something_in_one_process_only_is_refused(bad: Any, name: str) -> None:
    for make in (Value, RawValue, lambda t: Value.create(name, t), lambda t: Value.attach(name, t)):
        with pytest.raises(TypeError, match=r"expected"):
            make(bad)
    assert not file_of(name).exists()


def test_a_bad_first_value_is_refused_before_anything_is_made(name: str) -> None:
    with pytest.raises(TypeError):
        Array.create(name, "i", [1, "two"])
    assert not file_of(name).exists()


def test_the_other_byte_order_is_kept_in_arrays_and_structures(name: str) -> None:
    array = RawArray(ctypes.c_int.__ctype_be__, [1, 2])
    assert bytes(array) == b"\0\0\0\1\0\0\0\2"
    Value.create(name, Swapped, 5).close()
    assert bytes(RawValue.attach(name, Swapped)) == b"\0\0\0\5"
    with pytest.raises(LayoutError):
        Value.attach(name, type("Native", (ctypes.Structure,), {"_fields_": [("x", ctypes.c_int)]}))
    Value.unlink(name)


# --- names --------------------------------------------------------------------------------------


@isolated()
def test_a_name_gives_the_same_object(name: str) -> None:
    value = Value.create(name, "i", 5)
    again = Value.attach(name, "i")
    again.value += 1
    assert value.value == 6
    assert isinstance(again, Synchronized)
    assert isinstance(Value.attach(name), Synchronized)
    assert RawValue.attach(name).value == 6
    assert RawValue.attach(name, "i").name == name
    with value:
        assert in_child(lambda: Value.attach(name).acquire(False)) is False
    assert Value.open(name, "i", 77).value == 6
    value.unlink()
    with pytest.raises(FileNotFoundError):
        Value.attach(name)
    assert Value.open(name, "i", 77, unlink="last").value == 77


def test_an_array_is_found_with_its_length(name: str) -> None:
    array = Array.create(name, "d", [1, 2, 3])
    for found in (Array.attach(name), Array.attach(name, "d"), Array.attach(name, "d", 3)):
        assert found[:] == [1, 2, 3]
        assert isinstance(found, SynchronizedArray)
    assert list(Value.attach(name, ctypes.c_double * 3)) == [1, 2, 3]
    assert list(Array.open(name, "d", 3)) == [1, 2, 3]
    assert RawArray.attach(name, "d")[:] == RawArray.attach(name)[:] == [1, 2, 3]
    assert RawArray.open(name, "d", [4, 4, 4])[:] == [1, 2, 3]
    array.unlink()
    assert isinstance(Array.create(name, "c", b"abc"), SynchronizedString)
    assert Array.attach(name, timeout=1).value == b"abc"
    Array.unlink(name)


@pytest.mark.parametrize("raw", [False, True])
def test_what_disagrees_is_a_layout_error_that_says_both(name: str, raw: bool) -> None:
    (RawArray if raw else Array).create(name, "i", 10).close()
    before = file_of(name).read_bytes()
    cases: list[tuple[Any, tuple[Any, ...], str]] = [
        (Value, ("i",), "expected the type i, found i[10]"),
        (Value, (ctypes.c_int * 9,), "expected the type i[9], found i[10]"),
        (Array, ("d",), "expected the type d[any], found i[10]"),
        (Array, ("I", 10), "expected the type I[10], found i[10]"),
        (Array, ("i", 11), "expected the type i[11], found i[10]"),
        (Array, (ctypes.c_int * 5,), "expected the type i[any][5], found i[10]"),
        (RawValue, (Point,), "expected the type struct{x:i@0,y:d[2]@8,24}, found i[10]"),
        (RawArray, (Point,), "expected the type struct{x:i@0,y:d[2]@8,24}[any], found i[10]"),
    ]
    for door, arguments, message in cases:
        with pytest.raises(LayoutError) as error:
            door.attach(name, *arguments)
        assert str(error.value) == f"{name}: {message}"
    for door, arguments in ((Array, ("i", 9)), (Array, ("d", [0.0] * 10)), (RawArray, ("i", 9))):
        with pytest.raises(LayoutError):
            door.open(name, *arguments)
    assert file_of(name).read_bytes() == before
    Array.unlink(name)


def test_an_array_is_not_a_number(name: str) -> None:
    Value.create(name, "i").close()
    with pytest.raises(LayoutError, match=r"expected the type a type\[any\], found i"):
        Array.attach(name)
    with pytest.raises(TypeError):
        Array.attach(name, None, 5)
    Value.unlink(name)


def test_a_structure_is_found_by_its_layout(name: str) -> None:
    value = Value.create(name, Named, 1, (2, 3), b"name", 5, 31)
    found = Value.attach(name, Named)
    assert (found.x, found.name, found.low, found.high) == (1, b"name", 5, 31)
    assert found.get_obj().path == str(file_of(name))  # `name` is a field

    class Other(Point):
        _fields_ = [*Named._fields_[:1], ("low", ctypes.c_uint, 4), ("high", ctypes.c_uint, 4)]

    class Same(ctypes.Structure):
        _fields_ = Point._fields_ + Named._fields_

    for wrong in (Point, Other, ctypes.c_char * ctypes.sizeof(Named)):
        with pytest.raises(LayoutError):
            Value.attach(name, wrong)
    with pytest.raises(LayoutError, match="expected to be told the type"):
        Value.attach(name)
    assert Value.attach(name, Same).high == 31
    value.get_obj().unlink()


def test_the_lock_that_a_name_goes_with(name: str) -> None:
    lock, other = Lock(), Lock()
    value = Value.create(name, "i", 3, lock=lock)
    assert Value.attach(name, lock=lock).get_lock() is lock
    assert Value.attach(name, lock=False).value == RawValue.attach(name).value == 3
    for wrong in (None, True, other, threading.Lock()):
        with pytest.raises(LayoutError, match="lock"):
            Value.attach(name, lock=wrong)
    with pytest.raises(LayoutError, match="lock"):
        Value.open(name, "i", lock=other)
    value.unlink()

    value = Value.create(name, "i")
    with pytest.raises(LayoutError, match="lock"):
        Value.attach(name, lock=lock)
    assert Value.attach(name, lock=True).value == 0
    value.unlink()

    raw = RawValue.create(name, "i", 4)
    assert Value.attach(name).value == 4
    assert not hasattr(Value.attach(name), "get_lock")
    with pytest.raises(LayoutError, match="lock"):
        Value.attach(name, lock=True)
    raw.unlink()

    mine = threading.Lock()
    value = Value.create(name, "i", lock=mine)
    assert Value.attach(name, lock=mine).get_lock() is mine
    with pytest.raises(LayoutError, match="lock"):
        Value.attach(name)
    value.unlink()


# --- memory, handles, copies --------------------------------------------------------------------


def test_small_ones_share_a_segment_and_do_not_touch_each_other() -> None:
    values = [Value("q", n) for n in range(300)]
    arrays = [Array("q", [n] * 100) for n in range(100)]
    for value in values[::2]:
        value.value = -1
    assert [value.value for value in values[1::2]] == list(range(1, 300, 2))
    assert all(array[:] == [n] * 100 for n, array in enumerate(arrays))
    assert values[0]._memory._membership is values[1]._memory._membership


def test_cells_are_used_again_and_are_zero_then() -> None:
    addresses = set()
    for _ in range(50):
        raw = RawArray("B", 300)
        assert bytes(raw) == bytes(300)
        raw[:] = [255] * 300
        addresses.add(ctypes.addressof(raw))
        del raw
    assert len(addresses) < 5


@pytest.mark.parametrize("size", [100, 100_000])
def test_memory_stays_as_long_as_anything_made_from_it(size: int) -> None:
    value = Array("B", [7] * size)
    raw, lock = value.get_obj(), value.get_lock()
    view = memoryview(raw)
    value.close()
    del value, raw
    gc.collect()
    others = [RawArray("B", [1] * size) for _ in range(5)]
    assert bytes(view) == bytes([7]) * size
    del view, others
    assert lock.closed

    points = RawArray(Point, [(n, (n, n)) for n in range(size // 50)])
    inner = points[1].y
    pointer = ctypes.pointer(points[1])
    del points
    gc.collect()
    [RawArray("B", [1] * size) for _ in range(5)]
    assert list(inner) == [1.0, 1.0]
    assert pointer.contents.x == 1


def test_the_lock_keeps_its_cell() -> None:
    lock = Value("i").get_lock()
    lock.acquire()
    others = [Value("i", -1) for _ in range(5)]
    assert lock.locked()
    lock.release()
    assert [other.value for other in others] == [-1] * 5


def test_after_close() -> None:
    value = Value("i", 5)
    raw = value.get_obj()
    value.close()
    value.close()
    assert value.closed
    assert raw.closed
    assert raw.value == 5
    with pytest.raises(ClosedError):
        value.value  # noqa: B018
    with pytest.raises(ClosedError):
        pickle.dumps(raw)
    assert repr(value) == "<Synchronized closed>"


def test_a_pickle_is_the_same_object_and_a_copy_is_another() -> None:
    for thing in (Value("i", 5), Value("i", 5, lock=Lock())):
        again = pickle.loads(pickle.dumps(thing))
        again.value = 6
        assert thing.value == 6
        with thing:
            assert not in_thread(lambda again=again: again.acquire(False))()
    raw = RawValue(Named, 1)
    pickle.loads(pickle.dumps(raw)).x = 2
    assert raw.x == 2
    for copied in (copy.copy(raw), copy.deepcopy(raw), copy.deepcopy([raw])[0]):
        copied.x = 3
        assert type(copied) is Named
    assert raw.x == 2
    lock = pickle.loads(pickle.dumps(value := Value("i"))).get_lock()
    with value:
        assert lock.locked()
    assert pickle.loads(pickle.dumps(lock)).acquire()
    assert value.get_lock().locked()
    lock.release()


def test_the_doors_are_named() -> None:
    for door in (Value, Array, RawValue, RawArray):
        assert door.__doc__
        assert getattr(shmipc, door.__name__) is door
        assert repr(door) == f"<shmipc.{door.__name__}>"
        assert pickle.loads(pickle.dumps(door)) is door


def test_recover_frees_the_lock_and_leaves_the_bytes(name: str) -> None:
    value = Value.create(name, "i", 5)
    value.acquire()
    value.close()
    Value.recover(name)
    with Value.attach(name, "i") as _:
        pass
    assert RawValue.attach(name).value == 5
    Value.unlink(name)
