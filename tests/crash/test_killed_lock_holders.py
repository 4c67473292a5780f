"""Lock holders killed at random moments: the lock goes on to the next, who is told, and excludes
as before."""

from __future__ import annotations

import os
import random
import time
import warnings
from typing import Any

import pytest
from helpers import KILLS, LOCK_CLASSES, Forked, Gate, Words, in_child, made
from isolation import isolated

from shmipc import OwnerDiedWarning

every_lock = pytest.mark.parametrize("cls", LOCK_CLASSES)


INSIDE = 0  # in a room, the word for the pid of who holds the lock
ROUNDS = 1  # the first survivor's count; the others follow


def enter_and_leave(lock: Any, room: Words, poll: bool) -> None:
    """Once through the room; fails if somebody else is in it who did not die there."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if poll:
            while not lock.acquire(block=False):
                time.sleep(0)
        else:
            assert lock.acquire()
    inherited = any(issubclass(warning.category, OwnerDiedWarning) for warning in told)
    found = room[INSIDE]
    assert found == 0 or inherited, f"{found} is inside, and no warning"
    room[INSIDE] = os.getpid()
    for _ in range(20):
        assert room[INSIDE] == os.getpid(), "somebody else came in"
    room[INSIDE] = 0
    lock.release()


def use_for_ever(lock: Any, room: Words, index: int, poll: bool) -> None:
    while True:
        enter_and_leave(lock, room, poll)
        room[index] = room[index] + 1


@every_lock
@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("poll", [False, True], ids=["wait", "poll"])
@isolated(limit=120)
def test_the_others_go_on_when_holders_are_killed(cls: Any, poll: bool, kills: int) -> None:
    rng = random.Random(kills)
    room = Words(101)
    with made(cls) as lock:
        survivors = [Forked(use_for_ever, lock, room, ROUNDS + n, poll) for n in range(2)]
        for _ in range(kills):
            victim = Forked(use_for_ever, lock, room, 100, False)
            time.sleep(rng.random() / 50)
            victim.kill()
            before = [room[ROUNDS + n] for n in range(2)]
            while any(room[ROUNDS + n] < before[n] + 2 for n in range(2)):
                time.sleep(0.001)
        for survivor in survivors:
            survivor.kill()
        enter_and_leave(lock, room, poll)
        assert not lock.locked()


@every_lock
@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("poll", [False, True], ids=["wait", "poll"])
@isolated(limit=120)
def test_every_killed_holder_is_reported_once(cls: Any, poll: bool, kills: int) -> None:
    with made(cls) as lock:
        for _ in range(kills):
            held = Gate()
            victim = Forked(_hold_for_ever, lock, held)
            held.wait()
            victim.kill()
            with pytest.warns(OwnerDiedWarning) as told:
                _acquire(lock, poll)
            assert len(told) == 1
            lock.release()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                _acquire(lock, poll)
                lock.release()
            held.close()


@every_lock
@isolated()
def test_a_sleeper_wakes_when_the_holder_is_killed(cls: Any) -> None:
    with made(cls) as lock:
        held = Gate()
        victim = Forked(_hold_for_ever, lock, held)
        held.wait()
        sleepers = [Forked(_acquire_and_release, lock) for _ in range(4)]
        time.sleep(0.2)  # most of them sleep by now; it must work for each
        victim.kill()
        told = [sleeper.result() for sleeper in sleepers]
        assert told.count(True) == 1
        held.close()


@every_lock
@isolated()
def test_a_killed_sleeper_takes_no_wake_with_it(cls: Any) -> None:
    with made(cls) as lock:
        for _ in range(15):
            lock.acquire()
            victims = [Forked(_acquire_and_release, lock) for _ in range(3)]
            other = Forked(_acquire_and_release, lock)
            time.sleep(0.02)
            for victim in victims:
                victim.kill()
            lock.release()
            other.result()


@isolated()
def test_a_killed_holder_of_two_levels_leaves_an_rlock_free() -> None:
    with made(LOCK_CLASSES[1]) as lock:
        in_child(lambda: [lock.acquire() for _ in range(3)])
        with pytest.warns(OwnerDiedWarning):
            assert lock.acquire()
        lock.release()
        assert not lock.locked()


@every_lock
@isolated()
def test_a_new_process_does_not_own_what_a_dead_one_held(cls: Any) -> None:
    """A new process in the dead one's place does not own what that one held."""
    with made(cls) as lock:
        in_child(lock.acquire)
        got = in_child(_acquire_and_release, lock)
        assert got is True
        assert not lock.locked()


def _hold_for_ever(lock: Any, held: Gate) -> None:
    lock.acquire()
    held.open()
    while True:
        time.sleep(60)


def _acquire(lock: Any, poll: bool) -> None:
    if poll:
        while not lock.acquire(block=False):
            time.sleep(0.001)
    else:
        assert lock.acquire()


def _acquire_and_release(lock: Any) -> bool:
    """Whether it was told that the owner died."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert lock.acquire()
        time.sleep(0.001)
        lock.release()
    return bool(told)
