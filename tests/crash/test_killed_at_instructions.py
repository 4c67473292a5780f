"""Killed at some instruction of a whole call, interpreter and all: the survivor goes on."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from helpers import LOCK_CLASSES, in_child, made
from isolation import isolated
from stepping import Stepped, needs_stepping, stay_on_one_processor

import shmipc
from shmipc import OwnerDiedWarning

KILLS = [2, pytest.param(150, marks=pytest.mark.stress)]


def nothing(thing: Any) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """What a victim is killed in, and what has to hold then."""

    name: str
    make: Callable[[], AbstractContextManager[Any]]
    call: Callable[[Any], Any]
    check: Callable[[Any], None]  # in the survivor; the object is used again after it
    set_up: Callable[[Any], Any] = nothing  # in the survivor
    before: Callable[[Any], Any] = nothing  # in the victim
    meanwhile: Callable[[Any], Any] = nothing  # in the survivor, while the victim sleeps


# --- locks --------------------------------------------------------------------------------------


def acquire(lock: Any) -> None:
    assert lock.acquire()


def release(lock: Any) -> None:
    lock.release()


def acquire_and_release(lock: Any) -> None:
    acquire(lock)
    release(lock)


def let_another_die_with_it(lock: Any) -> None:
    acquire_and_release(lock)
    in_child(acquire, lock)
    warnings.simplefilter("ignore")  # building a warning that is shown takes ten times as long


def goes_on(lock: Any) -> None:
    """The next one has it, told exactly if the dead held it; and the one after him, untold."""
    owner = lock.owner()
    if owner and owner.alive:  # the survivor, who has not been asked for it yet
        lock.release()
        owner = None
    held = owner is not None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert lock.acquire(block=False)
    assert [warning.category for warning in told] == [OwnerDiedWarning] * held
    assert in_child(lock.acquire, False) is False
    lock.release()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_child(acquire_and_release, lock)
        acquire_and_release(lock)
    assert lock.owner() is None


def lock_cases(cls: Any) -> list[Case]:
    case = partial(Case, make=partial(made, cls, spin=0), check=goes_on)
    name = cls.__name__
    cases = [
        case(f"{name}-acquire", before=acquire_and_release, call=acquire),
        case(
            f"{name}-acquire held",
            set_up=acquire,
            before=come_too_late,
            call=acquire,
            meanwhile=release,
        ),
        case(f"{name}-release", before=acquire, call=release),
    ]
    if cls is shmipc.Lock:
        cases += [  # long ways, the same for all three
            case("Lock-first use in a child", call=acquire),
            case("Lock-inherit", before=let_another_die_with_it, call=acquire),
        ]
    if cls is shmipc.RLock:
        cases += [
            case(f"{name}-acquire again", before=acquire, call=acquire),
            case(f"{name}-release not the last", before=acquire_twice, call=release),
        ]
    return cases


def come_too_late(lock: Any) -> None:
    assert not lock.acquire(block=False)


def acquire_twice(lock: Any) -> None:
    acquire(lock)
    acquire(lock)


# --- what is counted by owner -------------------------------------------------------------------


def all_units_are_there(semaphore: Any) -> None:
    assert semaphore.get_value() == 2
    assert [semaphore.acquire(block=False) for _ in range(3)] == [True, True, False]
    assert in_child(semaphore.acquire, False) is False
    semaphore.release()
    semaphore.release()
    in_child(acquire_and_release, semaphore)


def nobody_reads(rwlock: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rwlock.acquire_write_lock(block=False)
    assert in_child(rwlock.acquire_read_lock, False) is False
    rwlock.release_write_lock()
    assert in_child(rwlock.acquire_read_lock, False) is True


def read_once(rwlock: Any) -> None:
    rwlock.acquire_read_lock()
    rwlock.release_read_lock()


def counted_cases() -> list[Case]:
    bounded = partial(
        Case,
        make=lambda: closing(shmipc.BoundedSemaphore(2, spin=0)),
        check=all_units_are_there,
    )
    rwlock = partial(Case, make=lambda: closing(shmipc.RWLock(spin=0)), check=nobody_reads)
    read, unread = shmipc.RWLock.acquire_read_lock, shmipc.RWLock.release_read_lock
    return [
        bounded("BoundedSemaphore-acquire", before=acquire_and_release, call=acquire),
        bounded("BoundedSemaphore-release", before=acquire_twice, call=release),
        rwlock("RWLock-read", before=read_once, call=read),
        rwlock("RWLock-release read", before=read, call=unread),
    ]


# --- every case ---------------------------------------------------------------------------------

CASES = [case for cls in LOCK_CLASSES for case in lock_cases(cls)] + counted_cases()


def play(case: Case, thing: Any, stop: Callable[[Stepped], bool]) -> tuple[int, int]:
    """Kills a victim where `stop` says so, or at the end; how far it had come."""
    case.set_up(thing)
    victim = Stepped(case.before, case.call, thing)
    while not victim.ended and not stop(victim):
        if not victim.step():
            case.meanwhile(thing)
            victim.wake()
    victim.kill()
    case.check(thing)
    return victim.steps, victim.native_steps


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@isolated(limit=120)
def test_the_survivor_goes_on_wherever_the_other_is_killed(case: Case, kills: int) -> None:
    """Half of the places are in the core or its binding, where there are few instructions."""
    needs_stepping()
    stay_on_one_processor()
    rng = random.Random(f"{case.name} {kills}")
    with case.make() as thing:
        steps, native_steps = play(case, thing, lambda victim: False)
        for kill in range(kills):
            if kill % 2:
                last = rng.randrange(steps)
                play(case, thing, lambda victim, last=last: victim.steps >= last)
            else:
                last = rng.randrange(1, native_steps + 1)
                play(case, thing, lambda victim, last=last: victim.native_steps >= last)
