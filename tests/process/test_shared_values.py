"""Values and arrays between processes: every way to travel, unrelated programs, killed holders."""

from __future__ import annotations

import ctypes
import importlib
import os
import random
import signal
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import BACKINGS, KILLS, Forked, Gate, in_child, made, pairwise_cases, run_python
from isolation import isolated

from shmipc import (
    Array,
    Lock,
    OwnerDiedWarning,
    Queue,
    RawArray,
    RawValue,
    RLock,
    SharedArray,
    Value,
)


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double * 2)]


# (door, arguments of it, what is sent of it)
THINGS: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "value": (Value, ("i", 5), lambda thing: thing),
    "structure": (Value, (Point, 1, (2, 3)), lambda thing: thing),
    "array": (Array, ("d", 1000), lambda thing: thing),
    "text": (Array, ("c", b"hello"), lambda thing: thing),
    "raw value": (RawValue, ("q", 7), lambda thing: thing),
    "raw structures": (RawArray, (Point, 10_000), lambda thing: thing),
    "the raw one": (Array, ("i", 10), lambda thing: thing.get_obj()),
    "the lock": (Value, ("i", 5), lambda thing: thing.get_lock()),
    "small ndarray": (SharedArray, (10, "i2"), lambda thing: thing),
    "ndarray": (SharedArray, ((100, 200), [("a", "i4"), ("b", "M8[s]")]), lambda thing: thing),
    "view": (SharedArray, ((100, 200), "i4"), lambda thing: thing[90:10:-3, ::2].T),
}
FACTORS: dict[str, Any] = {
    "what": list(THINGS),
    "start": ["fork", "spawn", "forkserver"],
    "library": ["multiprocessing", "multiprocess"],
    "backing": BACKINGS,
    "vehicle": ["process", "pool", "executor"],
}


def change(thing: Any) -> bytes:
    """Makes a difference that shows in the bytes, which are returned."""
    if isinstance(thing, RLock):  # a lock
        assert not thing.acquire(False)
        return b"locked"
    raw = thing.get_obj() if hasattr(thing, "get_obj") else thing
    if isinstance(raw, np.ndarray):
        raw.flat[:] = np.ones((), raw.dtype)
        return raw.tobytes()
    ctypes.memset(ctypes.addressof(raw), 0x41, ctypes.sizeof(raw))
    if hasattr(thing, "get_lock"):
        with thing:
            thing.get_lock()
    return bytes(raw)


def run_and_put(thing: Any, answer: Any) -> None:
    answer.put(change(thing))


def by_process(context: Any, thing: Any) -> Any:
    answer = context.SimpleQueue()
    process = context.Process(target=run_and_put, args=(thing, answer))
    process.start()
    found = answer.get()
    process.join()
    assert process.exitcode == 0
    process.close()
    answer.close()
    return found


def by_pool(context: Any, thing: Any) -> Any:
    with context.Pool(1) as pool:
        try:
            return pool.map(change, [thing])[0]
        finally:
            pool.close()
            pool.join()


def by_executor(context: Any, thing: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(change, thing).result()


@pytest.mark.parametrize(list(FACTORS), pairwise_cases(FACTORS))
@isolated(fresh=True)
def test_everything_travels_without_a_copy(
    what: str, start: str, library: str, backing: str, vehicle: str, tmp_path: Path
) -> None:
    context = importlib.import_module(library).get_context(start)
    if vehicle == "executor":  # concurrent.futures knows multiprocessing only
        context = importlib.import_module("multiprocessing").get_context(start)
    door, arguments, part = THINGS[what]
    name = f"test-{os.getpid()}" if backing == "named" else tmp_path / "file"
    whole = door(*arguments) if backing == "anonymous" else door.create(name, *arguments)
    thing = part(whole)
    is_lock = isinstance(thing, RLock)
    before = b"" if is_lock or hasattr(thing, "get_obj") else as_bytes(thing)
    if is_lock:
        thing.acquire()
    changed = globals()[f"by_{vehicle}"](context, thing)
    if is_lock:
        thing.release()
    else:
        assert changed == as_bytes(thing) != before
    if backing != "anonymous":
        whole.unlink()


def as_bytes(thing: Any) -> bytes:
    raw = thing.get_obj() if hasattr(thing, "get_obj") else thing
    return raw.tobytes() if isinstance(raw, np.ndarray) else bytes(raw)


@pytest.mark.parametrize("what", THINGS)
@isolated()
def test_everything_travels_through_a_queue(what: str) -> None:
    door, arguments, part = THINGS[what]
    with made(Queue) as channel:
        whole = door(*arguments)
        thing = part(whole)
        child = Forked(lambda: change(channel.get()[0]))
        if isinstance(thing, RLock):
            thing.acquire()
        channel.put([thing])
        found = child.result()
        if isinstance(thing, RLock):
            thing.release()
        else:
            assert found == as_bytes(thing)


@isolated()
def test_a_given_lock_travels_along() -> None:
    with made(Lock) as lock, made(Queue) as channel:
        value = Value("i", 5, lock=lock)
        channel.put(value)
        with value:
            assert in_child(lambda: channel.get().acquire(False)) is False


COUNT = """
import sys
from shmipc import Array, SharedArray, Value
value = Value.attach(sys.argv[1], "l", timeout=60)
array = Array.attach(sys.argv[1] + "-array", timeout=60)
shared = SharedArray.attach(sys.argv[1] + "-shared", timeout=60)
for _ in range(300):
    with value.get_lock():
        value.value += 1
    with array:
        array[0] += 1
        array[1:3] = [array[0], 7]
        shared[1, 1:] += 1
"""


@isolated()
def test_unrelated_programs_meet_by_name(name: str) -> None:
    value = Value.create(name, "l")
    array = Array.create(f"{name}-array", "l", 3)
    shared = SharedArray.create(f"{name}-shared", (2, 3), "f4")
    for done in [run_python("-c", COUNT, name) for _ in range(2)]:
        assert (done.stdout, done.stderr) == ("", "")
    assert value.value == 600
    assert array[:] == [600, 600, 7]
    assert shared.tolist() == [[0, 0, 0], [0, 600, 600]]
    for thing in (value, array, shared):
        thing.unlink()


# --- killed holders -----------------------------------------------------------------------------


@pytest.mark.parametrize("backing", ["anonymous", "named"])
@isolated()
def test_a_holder_that_is_killed_is_told_to_the_next(backing: str, name: str) -> None:
    value = Value("i") if backing == "anonymous" else Value.create(name, "i", unlink="last")

    def hold() -> None:
        with value.get_lock():
            value.value = 5
            held.open()
            time.sleep(600)

    held = Gate()
    victim = Forked(hold)
    held.wait()
    waiter = Forked(told, value)
    victim.kill()
    assert waiter.result() == (True, 5)
    assert told(value) == (False, 5)
    held.close()


def told(value: Any) -> tuple[bool, int]:
    """Whether somebody had died, and the value."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        number = value.value
    return any(issubclass(w.category, OwnerDiedWarning) for w in found), number


@pytest.mark.parametrize("kills", KILLS)
@isolated(limit=120)
def test_counters_that_are_killed_at_random(kills: int) -> None:
    """Two halves of a structure agree whenever nobody died between them."""
    point, rng = Value(Point), random.Random(kills)

    def count() -> None:
        started.open()
        while True:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with point.get_lock():
                    raw = point.get_obj()
                    raw.x += 1
                    raw.y[0] = raw.x

    started = Gate()
    for _ in range(kills):
        victim = Forked(count)
        started.wait()
        time.sleep(rng.random() / 100)
        victim.kill()
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            with point.get_lock():
                raw = point.get_obj()
                assert raw.x == raw.y[0] or (found and raw.x == raw.y[0] + 1)
                raw.y[0] = raw.x
    started.close()
    assert point.x > kills


@isolated()
def test_a_creator_that_is_killed_leaves_no_name(name: str) -> None:
    """The name is there with the first value, or not at all."""
    rng = random.Random(7)
    seen = 0
    for _ in range(15):
        victim = Forked(lambda: [Array.create(name, "B", bytes([7]) * 200_000), time.sleep(600)])
        time.sleep(rng.random() / 50)
        os.kill(victim.pid, signal.SIGKILL)
        os.waitpid(victim.pid, 0)
        victim.forget()
        try:
            found = RawArray.attach(name, "B", 200_000)
        except FileNotFoundError:
            continue
        seen += 1
        assert bytes(found) == bytes([7]) * 200_000
        found.unlink()
    assert seen >= 0
