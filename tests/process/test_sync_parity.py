"""The same body against multiprocessing's locks and the rest, and against ours."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Gate, in_thread
from isolation import isolated

import shmipc

context = multiprocessing.get_context("fork")
KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]
UNITS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore"]
each_library = pytest.mark.parametrize("library", [context, shmipc], ids=["mp", "shmipc"])
each_units = pytest.mark.parametrize("kind", UNITS)
each_semaphore = pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])


def run(function: Callable[..., Any], *arguments: Any) -> int:
    """The exit status of a started process."""
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join()
    status = process.exitcode
    process.close()
    assert status is not None
    return status


def started(function: Callable[..., Any], *arguments: Any) -> Any:
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def exit_with(function: Callable[[], Any]) -> None:
    os._exit(int(function()))


def all_leave(processes: list[Any]) -> list[int]:
    """Their exit statuses."""
    for process in processes:
        process.join()
    statuses = [process.exitcode for process in processes]
    for process in processes:
        process.close()
    return statuses


# --- signatures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_everything_public_is_there(kind: str) -> None:
    """And takes the arguments that multiprocessing names."""
    theirs = getattr(context, kind)(*((2,) if kind == "Barrier" else ()))
    ours = getattr(shmipc, kind)
    for name in dir(theirs):
        if name.startswith("_"):
            continue
        assert hasattr(ours, name), name
    assert {"__enter__", "__exit__"} <= set(dir(ours)) or kind in ("Event", "Barrier")
    ours(2) if kind == "Barrier" else ours()


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore", "Condition", "Barrier"])
def test_the_constructors_arguments_have_the_same_names_and_order(kind: str) -> None:
    theirs = list(inspect.signature(getattr(context, kind)).parameters)
    ours = list(inspect.signature(getattr(shmipc, kind)).parameters)
    assert ours[: len(theirs)] == theirs


# --- what is acquired and released --------------------------------------------------------------


@each_library
@each_units
def test_acquire_says_true_release_nothing(library: Any, kind: str) -> None:
    thing = getattr(library, kind)()
    assert thing.acquire() is True
    assert thing.release() is None
    assert thing.acquire(False) is True
    thing.release()
    assert thing.acquire(True, None) is True
    thing.release()
    assert thing.acquire(block=True, timeout=5) is True
    thing.release()
    with thing as entered:
        assert entered is True


@each_library
@each_units
@pytest.mark.parametrize(
    "arguments", [(False,), (False, 5), (True, 0), (True, -1), (True, -0.5), (True, 0.01)], ids=str
)
@isolated()
def test_what_another_process_has_is_not_acquired(
    library: Any, kind: str, arguments: tuple[Any, ...]
) -> None:
    thing = getattr(library, kind)()
    thing.acquire()
    assert run(exit_with, lambda: thing.acquire(*arguments) is False) == 1
    thing.release()
    assert run(exit_with, lambda: thing.acquire(*arguments) is True) == 1


@each_library
@each_units
@isolated()
def test_a_waiter_gets_what_is_released(library: Any, kind: str) -> None:
    thing = getattr(library, kind)()
    thing.acquire()
    child = started(exit_with, lambda: thing.acquire(timeout=50))
    time.sleep(0.05)
    thing.release()
    assert all_leave([child]) == [1]


@each_library
@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore"])
@isolated()
def test_another_thread_or_process_may_release(library: Any, kind: str) -> None:
    thing = getattr(library, kind)()
    thing.acquire()
    in_thread(thing.release)()
    assert thing.acquire(False)
    assert run(thing.release) == 0
    assert thing.acquire(False)
    thing.release()


@each_library
@pytest.mark.parametrize("kind", ["Lock", "BoundedSemaphore"])
def test_one_release_too_many_is_a_value_error(library: Any, kind: str) -> None:
    thing = getattr(library, kind)()
    with pytest.raises(ValueError, match="released too many times"):
        thing.release()


@each_library
def test_an_rlock_is_its_threads(library: Any) -> None:
    lock = library.RLock()
    with pytest.raises(AssertionError):
        lock.release()
    with lock, lock:
        with pytest.raises(AssertionError):
            in_thread(lock.release)()
        assert in_thread(lambda: lock.acquire(False))() is False
    with pytest.raises(AssertionError):
        lock.release()


@each_library
@each_semaphore
def test_a_semaphore_counts(library: Any, kind: str) -> None:
    units = getattr(library, kind)(3)
    assert units.get_value() == 3
    for left in (2, 1, 0):
        assert units.acquire(False)
        assert units.get_value() == left
    assert not units.acquire(False)
    assert not units.acquire(timeout=0.01)
    for there in (1, 2, 3):
        units.release()
        assert units.get_value() == there


@each_library
def test_a_plain_semaphore_has_no_bound_and_may_begin_empty(library: Any) -> None:
    units = library.Semaphore(0)
    assert not units.acquire(False)
    units.release()
    units.release()
    assert units.get_value() == 2


@each_library
@each_semaphore
def test_a_negative_value_is_refused(library: Any, kind: str) -> None:
    with pytest.raises((ValueError, OSError)):
        getattr(library, kind)(-1)


# --- conditions ---------------------------------------------------------------------------------


@each_library
@pytest.mark.parametrize("method", ["wait", "notify", "notify_all"])
def test_a_condition_is_used_under_its_lock(library: Any, method: str) -> None:
    condition = library.Condition()
    with pytest.raises(AssertionError):
        getattr(condition, method)()
    with condition:
        with pytest.raises(AssertionError):
            in_thread(getattr(condition, method))()
        if method != "wait":
            assert getattr(condition, method)() is None


@each_library
@pytest.mark.parametrize("timeout", [0, -1, 0.02])
def test_a_wait_that_nobody_ends_says_false(library: Any, timeout: float) -> None:
    condition = library.Condition()
    with condition:
        assert condition.wait(timeout) is False
        assert condition.wait(timeout=timeout) is False
        assert condition.acquire(False)  # an RLock by default
        condition.release()


@each_library
@pytest.mark.parametrize("lock", [None, "Lock", "RLock"])
@isolated()
def test_notify_wakes_as_many_as_it_says(library: Any, lock: str | None) -> None:
    condition = library.Condition(*([getattr(library, lock)()] if lock else []))
    waiting, woken = context.Value("i", 0), context.Value("i", 0)

    def wait() -> None:
        with condition:
            waiting.value += 1
            assert condition.wait(50) is True
            woken.value += 1

    children = [started(wait) for _ in range(6)]
    while waiting.value < 6:
        time.sleep(0.001)
    with condition:
        pass  # the last of them has let go of it: he waits
    for said, expected in ((1, 1), (2, 3)):
        with condition:
            condition.notify(said)
        while woken.value < expected:
            time.sleep(0.001)
        time.sleep(0.1)
        assert woken.value == expected
    with condition:
        condition.notify_all()
    assert all_leave(children) == [0] * 6


@each_library
@isolated()
def test_a_wait_gives_up_all_levels_of_an_rlock(library: Any) -> None:
    condition = library.Condition()

    def notify() -> None:
        with condition:
            condition.notify()

    with condition, condition, condition:
        child = started(notify)
        assert condition.wait(50)
        assert in_thread(lambda: condition.acquire(False))() is False
    assert all_leave([child]) == [0]
    assert in_thread(lambda: condition.acquire(False))() is True


@each_library
@isolated()
def test_wait_for(library: Any) -> None:
    condition, state = library.Condition(), context.Value("i", 0)

    def count_up() -> None:
        for _ in range(5):
            with condition:
                state.value += 1
                condition.notify()

    with condition:
        assert condition.wait_for(lambda: 7) == 7
        assert condition.wait_for(list, timeout=0.01) == []
        assert condition.wait_for(lambda: False, 0) is False
        child = started(count_up)
        assert condition.wait_for(lambda: state.value == 5, timeout=50) is True
    assert all_leave([child]) == [0]


# --- events -------------------------------------------------------------------------------------


@each_library
@isolated()
def test_an_event(library: Any) -> None:
    event = library.Event()
    assert event.is_set() is False
    assert event.wait(0) is False
    assert event.wait(-1) is False
    assert event.wait(timeout=0.01) is False
    children = [started(exit_with, lambda: event.wait(50)) for _ in range(4)]
    time.sleep(0.05)
    assert event.set() is None
    assert all_leave(children) == [1] * 4
    assert event.is_set() is True
    assert event.wait() is True
    assert event.clear() is None
    assert event.is_set() is False
    assert run(event.set) == 0
    assert event.is_set()


# --- barriers -----------------------------------------------------------------------------------


@each_library
@isolated()
def test_parties_meet_again_and_again(library: Any) -> None:
    barrier, rounds = library.Barrier(4), context.Array("i", 4)

    def meet(number: int) -> None:
        indices = set()
        for turn in range(200):
            rounds[number] = turn
            indices.add(barrier.wait(50))
            assert min(rounds) >= turn, "somebody was let go too early"
            barrier.wait(50)
        assert indices <= {0, 1, 2, 3}

    assert all_leave([started(meet, n) for n in range(4)]) == [0] * 4
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (4, 0, False)


@each_library
@isolated()
def test_each_party_has_its_own_index_and_the_action_runs_once(library: Any) -> None:
    acted, indices = context.Value("i", 0), context.Array("i", [-1] * 3)

    def act() -> None:
        acted.value += 1

    barrier = library.Barrier(3, act)

    def meet(number: int) -> None:
        indices[number] = barrier.wait()
        assert acted.value == 1

    assert all_leave([started(meet, n) for n in range(3)]) == [0] * 3
    assert sorted(indices) == [0, 1, 2]
    assert acted.value == 1


def breaks(barrier: Any, timeout: float | None = None) -> bool:
    try:
        barrier.wait(timeout)
    except threading.BrokenBarrierError:
        return True
    return False


@each_library
@isolated()
def test_a_timeout_breaks_the_barrier_for_all(library: Any) -> None:
    barrier = library.Barrier(3)
    child = started(exit_with, lambda: breaks(barrier))
    assert breaks(barrier, 0.2)
    assert all_leave([child]) == [1]
    assert barrier.broken is True
    assert breaks(barrier)
    barrier.reset()
    assert barrier.broken is False


@each_library
@isolated()
def test_the_default_timeout(library: Any) -> None:
    assert breaks(library.Barrier(2, None, 0.01))
    assert breaks(library.Barrier(2, timeout=0.01))
    assert library.Barrier(1, timeout=0.01).wait(5) == 0


@each_library
@pytest.mark.parametrize("end", ["abort", "reset"])
@isolated()
def test_abort_and_reset_end_the_waits(library: Any, end: str) -> None:
    barrier = library.Barrier(3)
    children = [started(exit_with, lambda: breaks(barrier)) for _ in range(2)]
    while barrier.n_waiting < 2:
        time.sleep(0.001)
    getattr(barrier, end)()
    assert all_leave(children) == [1, 1]
    assert barrier.broken is (end == "abort")
    assert barrier.n_waiting == 0


@each_library
@isolated()
def test_an_action_that_raises_breaks_the_barrier(library: Any) -> None:
    def fail() -> None:
        raise KeyError("action")

    barrier = library.Barrier(2, fail)
    outcomes = [in_thread(barrier.wait) for _ in range(2)]
    found = []
    for outcome in outcomes:
        try:
            outcome()
        except (KeyError, threading.BrokenBarrierError) as error:
            found.append(type(error).__name__)
    assert sorted(found) == ["BrokenBarrierError", "KeyError"]
    assert barrier.broken


# --- repr ---------------------------------------------------------------------------------------


def shown(thing: Any) -> str:
    return re.sub(r"multiprocessing\.synchronize\.|0x[0-9a-f]+", "", repr(thing))


@pytest.mark.parametrize("kind", KINDS)
@isolated()
def test_the_repr_is_the_same(kind: str) -> None:
    def states(library: Any) -> list[str]:
        thing = getattr(library, kind)(*((2,) if kind == "Barrier" else ()))
        seen = [shown(thing)]
        if kind in UNITS or kind == "Condition":
            with thing:
                seen.append(shown(thing))
                in_thread(lambda: seen.append(shown(thing)))()
                if kind == "RLock":
                    with thing:
                        seen.append(shown(thing))
        if kind == "Event":
            thing.set()
            seen.append(shown(thing))
        if kind == "Barrier":
            thing.abort()
            seen.append(shown(thing))
        return seen

    assert states(shmipc) == states(context)


@each_library
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
@isolated()
def test_the_repr_of_what_another_process_has(library: Any, kind: str) -> None:
    lock, held, leave = getattr(library, kind)(), Gate(), Gate()

    def hold() -> None:
        with lock:
            held.open()
            leave.wait()

    child = started(hold)
    held.wait()
    assert "SomeOtherProcess" in repr(lock)
    leave.open()
    assert all_leave([child]) == [0]
    held.close()
    leave.close()
