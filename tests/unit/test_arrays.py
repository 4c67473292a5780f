"""SharedArray: shapes, dtypes, names, views, what is calculated; and memory that stays."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import numpy as np
import pytest
from helpers import file_of, in_child, run_python
from isolation import isolated

import shmipc
from shmipc import ClosedError, LayoutError, SharedArray

DTYPES: list[Any] = [
    "?",
    "i1",
    "<u4",
    ">i8",
    "f2",
    "d",
    "g",
    "F",
    "S5",
    "U3",
    "S",
    "M8[ns]",
    "M8[25s]",
    "m8",
    "V7",
    ("i4", (2, 3)),
    [("a", "i1"), ("b", "M8[D]"), ("c", "f8", (2, 2))],
    [("outer", [("inner", "<f4"), ("other", "S3", (2,))]), ("n", "?")],
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype({"names": ["b", "a"], "formats": ["i4", "u1"], "offsets": [8, 0], "itemsize": 20}),
    np.dtype({"names": ["x", "y"], "formats": ["i4", "i2"], "offsets": [0, 0]}),
    [(("a title", "n"), "i4"), ("m", "i4")],
    [("\N{GREEK SMALL LETTER ALPHA} \"'\\", "i4")],
]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), 5, (2, 3, 4), (0,), (3, 0), (1,) * 32], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_it_is_as_numpys_and_a_name_gives_it_back(
    dtype: Any, shape: Any, order: Any, name: str
) -> None:
    expected = np.zeros(shape, dtype, order)
    made = SharedArray.create(name, shape, dtype, order=order)
    found = SharedArray.attach(name)
    for array in (made, found, SharedArray(shape, dtype, order=order)):
        assert array.shape == expected.shape
        assert array.strides == expected.strides or array.size == 0
        assert array.dtype == expected.dtype
        assert array.dtype.fields == expected.dtype.fields
        assert np.array_equal(array, expected)
    if made.size:
        memoryview(made.base)[-1:] = b"\1"
        assert bytes(memoryview(found.base)) == bytes(made.nbytes - 1) + b"\1"
    made.unlink()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((3, object), TypeError),
        ((3, [("a", "i4"), ("b", object)]), TypeError),
        ((3, "nonsense"), TypeError),
        ((-1,), ValueError),
        ((2.5,), TypeError),
        (("3",), TypeError),
        (((2, None),), TypeError),
        (((1,) * 70,), ValueError),
        ((1 << 60,), ValueError),
        (((1 << 40, 1 << 40),), ValueError),
        (((0, 1 << 62),), ValueError),
        ((), TypeError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(
    arguments: Any, error: Any, name: str
) -> None:
    for door in (SharedArray, lambda *a: SharedArray.create(name, *a)):
        with pytest.raises(error):
            door(*arguments)
    for option in ({"order": "K"}, {"order": None}, {"access": "w"}):
        with pytest.raises((ValueError, TypeError)):
            SharedArray.create(name, 3, **option)
    assert not file_of(name).exists()


def test_a_dtype_that_is_not_numpys_own_is_refused() -> None:
    if hasattr(np.dtypes, "StringDType"):
        with pytest.raises(TypeError):
            SharedArray(3, np.dtypes.StringDType())


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((4,), {}, ["shape", "(3, 2)", "(4,)"]),
        (((3, 2), "i4"), {}, ["dtype", "int32", "float64"]),
        (((3, 2),), {"order": "F"}, ["order", "'C'", "'F'"]),
    ],
)
def test_what_disagrees_is_a_layout_error_that_says_both(
    arguments: Any, options: Any, said: list[str], name: str
) -> None:
    with_name = SharedArray.create(name, (3, 2))
    with pytest.raises(LayoutError) as error:
        SharedArray.open(name, *arguments, **options)
    assert all(word in str(error.value) for word in [name, *said])
    assert SharedArray.open(name, (3, 2)).dtype == float
    assert SharedArray.open(name, (3, 2), "d", order="C").shape == (3, 2)
    with_name.unlink()
    assert SharedArray.open(name, 3, "i2", unlink="last").dtype == np.int16


def test_a_value_is_no_array(name: str) -> None:
    shmipc.Array.create(name, "d", 3).close()
    with pytest.raises(LayoutError, match="expected a SharedArray, found a Value or Array"):
        SharedArray.attach(name)
    shmipc.Array.unlink(name)
    SharedArray.create(name, 3).close()
    with pytest.raises(LayoutError, match="expected a Value or Array, found a SharedArray"):
        shmipc.Array.attach(name)
    with pytest.raises(LayoutError):
        shmipc.Array.unlink(name)
    SharedArray.unlink(name)


def test_read_only(name: str) -> None:
    array = SharedArray.create(name, 3)
    reader = SharedArray.attach(name, access="r")
    array[:] = [1, 2, 3]
    for view in (reader, reader[1:], pickle.loads(pickle.dumps(reader[::2]))):
        assert view.sum() > 0
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 5
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
    array.unlink()


def test_unlink_belongs_to_the_array_and_its_views(name: str) -> None:
    array = SharedArray.create(name, (3, 3))
    assert array[1:].T.name == array.name == name
    assert array.path == str(file_of(name))
    array[1:].unlink()
    assert not file_of(name).exists()
    with pytest.raises(ValueError, match="anonymous"):
        SharedArray(3).unlink()


# --- views and copies ---------------------------------------------------------------------------

VIEWS: dict[str, Any] = {
    "all": lambda a: a,
    "slice": lambda a: a[1:],
    "steps": lambda a: a[::-2, ::-1],
    "row": lambda a: a[2],
    "transposed": lambda a: a.T[1:],
    "reshaped": lambda a: a.reshape(-1)[5:],
    "other dtype": lambda a: a.view("u1"),
    "no axis": lambda a: a[2, 3, ...],
    "more axes": lambda a: a[None, :, None],
    "diagonal": lambda a: a.diagonal(),
    "numpy's": lambda a: np.swapaxes(np.squeeze(a), 0, 1),
    "empty": lambda a: a[5:],
    "broadcast": lambda a: np.broadcast_to(a, (2, 5, 6), subok=True),
}


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("what", VIEWS)
def test_a_pickled_view_is_the_same_memory(what: str, size: int) -> None:
    array = SharedArray((size, 5, 6), "i4")[-1]
    array[...] = np.arange(30).reshape(5, 6)
    view = VIEWS[what](array)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(view, protocol))
        assert type(again) is SharedArray
        assert (again.shape, again.strides, again.dtype) == (view.shape, view.strides, view.dtype)
        assert np.array_equal(again, view)
        assert again.flags.writeable == view.flags.writeable
    array[...] += 1
    assert np.array_equal(again, view)
    data = pickle.dumps(view)
    assert len(data) < 1000
    assert view.size == 0 or again.base is not view.base


RESULTS: dict[str, Any] = {
    "sum of two": lambda a: a + a,
    "sum": lambda a: a.sum(),
    "sums": lambda a: a.sum(axis=0),
    "mean": lambda a: np.mean(a, axis=1),
    "comparison": lambda a: a > 3,
    "two at once": lambda a: np.divmod(a, 2),
    "matrix product": lambda a: a @ a.T,
    "chosen rows": lambda a: a[[0, 2]],
    "chosen elements": lambda a: a[a > 3],
    "copy": lambda a: a.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "astype": lambda a: a.astype("f4"),
    "flatten": lambda a: a.flatten(),
    "take": lambda a: a.take([0, 1]),
    "argsort": lambda a: a.argsort(),
    "nonzero": lambda a: a.nonzero(),
    "cumsum": lambda a: a.cumsum(),
    "joined": lambda a: np.concatenate([a, a]),
    "stacked": lambda a: np.stack([a, a]),
    "where": lambda a: np.where(a > 3, a, 0),
    "zeros_like": np.zeros_like,
    "sorted": np.sort,
    "rolled": lambda a: np.roll(a, 1),
    "outer": lambda a: np.add.outer(a[0], a[1]),
    "scalar": lambda a: a[1, 2],
    "asarray": lambda a: np.array(a),
}


@pytest.mark.parametrize("what", RESULTS)
def test_what_is_calculated_is_an_ordinary_array(what: str) -> None:
    array = SharedArray((4, 4), "i4")
    array[...] = np.arange(16).reshape(4, 4)
    plain = np.arange(16, dtype="i4").reshape(4, 4)
    results, expected = RESULTS[what](array), RESULTS[what](plain)
    if not isinstance(results, tuple):
        results, expected = (results,), (expected,)
    for result, should in zip(results, expected, strict=True):
        assert type(result) is type(should)
        assert np.array_equal(result, should)
        assert not np.shares_memory(result, array)


def test_in_place_operations_stay_in_the_memory() -> None:
    array = SharedArray(4)
    same = array
    array += 2
    array *= 3
    assert array is same
    assert np.add(array, 1, out=array) is array
    np.add.at(array, [0, 0], 10)
    array.sort()
    assert pickle.loads(pickle.dumps(array)).tolist() == [7, 7, 7, 27]


def test_an_array_of_the_class_that_shares_nothing_is_pickled_whole() -> None:
    array = np.arange(3).view(SharedArray)
    again = pickle.loads(pickle.dumps(array))
    assert again.tolist() == [0, 1, 2]
    for what in ("name", "path", "closed", "unlink"):
        assert not hasattr(array, what)
    with pytest.raises(AttributeError, match="shares nothing"):
        array.close()


@pytest.mark.parametrize("size", [10, 100_000])
def test_memory_stays_as_long_as_any_view(size: int) -> None:
    array = SharedArray(size, "i4")
    array[:] = np.arange(size)
    views = [array[1:], memoryview(array[2:]), np.asarray(array)[3:], array.reshape(2, -1)[1]]
    array.close()
    assert views[0].closed
    with pytest.raises(ClosedError):
        pickle.dumps(array)
    del array
    while views:
        gc.collect()
        others = [SharedArray(size, "i4") for _ in range(5)]
        for other in others:
            other[:] = -1
        for view in views:
            assert np.array_equal(np.asarray(view), np.arange(size, dtype="i4")[-len(view) :])
        views.pop()


@isolated()
def test_a_fork_child_writes_to_the_same_memory(name: str) -> None:
    arrays = [SharedArray(10), SharedArray(100_000), SharedArray.create(name, 10, unlink="last")]
    for array in arrays:
        in_child(array[3:].fill, 5)
        assert array[:4].tolist() == [0, 0, 0, 5]


def test_the_import_is_lazy() -> None:
    script = """
import sys
from shmipc import *
import shmipc
assert "numpy" not in sys.modules
assert "SharedArray" in dir(shmipc)
shmipc.Value("i")
assert "numpy" not in sys.modules and "multiprocessing" not in sys.modules
assert shmipc.SharedArray(3).sum() == 0
try:
    shmipc.Nonsense
except AttributeError as error:
    print(error)
"""
    done = run_python("-W", "error", "-c", script)
    assert (done.stdout, done.stderr) == ("module 'shmipc' has no attribute 'Nonsense'\n", "")
