"""Who waits, holds, has arrived or was notified is killed, or stopped and killed: nothing that he
had or was given is lost to the others, and exactly one of them is told.
"""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from crews import Crew, Member
from helpers import LOCK_CLASSES, Forked, Gate, made, wait_until_asleep
from isolation import isolated

from shmipc import (
    AtomicInt64,
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    Condition,
    Event,
    Lock,
    OwnerDiedError,
    OwnerDiedWarning,
    RWLock,
    Semaphore,
)

FEW = 4
each_kills = pytest.mark.parametrize("kills", [FEW, pytest.param(300, marks=pytest.mark.stress)])


class Place(NamedTuple):
    """Something to wait for: how nobody gets on, how one waits, and how `people` get on."""

    make: Callable[[], Any]
    block: Callable[[Any], Any]
    wait: Callable[[Any], Any]
    let_go: Callable[[Any, int], Any]


def take_all(units: Any) -> None:
    while units.acquire(False):
        pass


def give(units: Any, people: int) -> None:
    for _ in range(people):
        units.release()


def pass_through(lock: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(lock.acquire()) and lock.release() is None


def wait_once(condition: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with condition:
            return bool(condition.wait())


def notify(condition: Any, people: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with condition:
            condition.notify(people)


def read_once(lock: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(lock.acquire_read_lock()) and lock.release_read_lock() is None


def write_once(lock: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(lock.acquire_write_lock()) and lock.release_write_lock() is None


PLACES: dict[str, Place] = {
    **{
        cls.__name__: Place(
            cls, lambda lock: lock.acquire(), pass_through, lambda x, n: x.release()
        )
        for cls in LOCK_CLASSES
    },
    "Semaphore": Place(lambda: Semaphore(0), take_all, lambda units: units.acquire(), give),
    "BoundedSemaphore": Place(
        lambda: BoundedSemaphore(4), take_all, lambda units: units.acquire(), give
    ),
    "Event": Place(
        Event, lambda event: event.clear(), lambda event: event.wait(), lambda x, n: x.set()
    ),
    "Condition": Place(Condition, lambda condition: None, wait_once, notify),
    "RWLock to read": Place(
        RWLock,
        lambda lock: lock.acquire_write_lock(),
        read_once,
        lambda lock, n: lock.release_write_lock(),
    ),
    "RWLock to write": Place(
        RWLock,
        lambda lock: lock.acquire_read_lock(),
        write_once,
        lambda lock, n: lock.release_read_lock(),
    ),
    "AtomicInt64": Place(
        AtomicInt64,
        lambda number: number.store(0),
        lambda number: number.wait(0) != 0,
        lambda number, n: number.add(),
    ),
}
each_place = pytest.mark.parametrize("where", PLACES)


# --- who waits ----------------------------------------------------------------------------------


@each_place
@each_kills
@isolated(limit=120)
def test_a_killed_waiter_takes_nothing_with_it(where: str, kills: int) -> None:
    """Killed before, while and after all are let go: the one that lives gets on."""
    place = PLACES[where]
    rng = random.Random(kills)
    for _ in range(kills):
        thing = place.make()  # what a dead one was notified of would go to who waits next
        place.block(thing)
        victims = [Forked(place.wait, thing) for _ in range(3)]
        other = Forked(place.wait, thing)
        if where == "Condition":
            while thing._waiting() < 4:
                time.sleep(0.001)
        else:
            time.sleep(rng.random() / 50)
        how_many_first = rng.randrange(4)
        for victim in victims[:how_many_first]:
            victim.kill()
        place.let_go(thing, 4)
        for victim in victims[how_many_first:]:
            victim.kill()
        assert other.result() is True
        thing.close()


@pytest.mark.parametrize("where", [where for where in PLACES if where != "RWLock to write"])
@isolated(limit=120)
def test_a_stopped_waiter_keeps_nobody_up(where: str) -> None:
    """The wake may have been its own; the others look for themselves.  (A writer that waits for
    readers has its turn, and keeps it.)"""
    place = PLACES[where]
    thing = place.make()
    for _ in range(2):
        place.block(thing)
        sleeper = Forked(place.wait, thing)
        wait_until_asleep(sleeper.pid)
        sleeper.stop()
        other = Forked(place.wait, thing)
        wait_until_asleep(other.pid)
        place.let_go(thing, 2)
        assert other.result() is True
        sleeper.cont()
        assert sleeper.result() is True
    thing.close()


# --- conditions ---------------------------------------------------------------------------------


def waiters_of(condition: Any, count: int) -> list[Forked]:
    """They wait in this order."""
    people: list[Forked] = []
    before = condition._waiting()
    for number in range(count):
        people.append(Forked(wait_once, condition))
        while condition._waiting() < before + number + 1:
            time.sleep(0.001)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with condition:  # he has let go of the lock, too
                pass
    return people


def have_ended(people: list[Forked]) -> list[bool]:
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return [os.waitid(os.P_PID, one.pid, ended) is not None for one in people]


@pytest.mark.parametrize("cls", LOCK_CLASSES)
@pytest.mark.parametrize("stopped", [False, True])
@isolated(limit=120)
def test_what_the_dead_were_notified_of_goes_to_as_many_others(cls: Any, stopped: bool) -> None:
    with made(Condition, lock=cls()) as condition:
        for dead in (1, 3):
            victims = waiters_of(condition, dead)
            others = waiters_of(condition, 4)
            with condition:  # the notified cannot come back before they are dead
                if stopped:
                    for victim in victims:
                        victim.stop()
                condition.notify(dead)
                assert condition._waiting() == 4
                for victim in victims:
                    victim.kill()
            while sum(have_ended(others)) < dead:
                time.sleep(0.01)
            time.sleep(0.2)
            assert sum(have_ended(others)) == dead
            assert condition._waiting() == 4 - dead
            notify(condition, 4)
            assert [other.result() for other in others] == [True] * 4


@isolated(limit=120)
def test_what_a_dead_one_was_notified_of_goes_to_who_comes_later() -> None:
    with made(Condition) as condition:
        (victim,) = waiters_of(condition, 1)
        with condition:
            condition.notify()
            victim.kill()
        assert Forked(wait_once, condition).result() is True


@isolated(limit=120)
def test_a_stopped_one_keeps_its_notification_and_the_next_goes_on() -> None:
    with made(Condition) as condition:
        first, second = waiters_of(condition, 2)
        first.stop()
        notify(condition, 1)
        assert condition._waiting() == 1
        assert have_ended([first, second]) == [False, False]
        notify(condition, 1)
        assert second.result() is True
        first.cont()
        assert first.result() is True


@isolated(limit=120)
def test_dead_waiters_are_not_counted_among_those_notified() -> None:
    with made(Condition) as condition:
        for _ in range(5):
            victims = waiters_of(condition, 3)
            others = waiters_of(condition, 2)
            for victim in victims:
                victim.kill()
            notify(condition, 2)
            assert [other.result() for other in others] == [True, True]


# --- who is told --------------------------------------------------------------------------------

HELD: dict[str, tuple[Callable[..., Any], list[str]]] = {
    **{cls.__name__: (cls, ["acquire", "release"]) for cls in LOCK_CLASSES},
    "Condition": (lambda **kw: Condition(Lock(**kw)), ["acquire", "release"]),
    "RWLock": (RWLock, ["acquire_write_lock", "release_write_lock"]),
    "RWLock, read": (RWLock, ["acquire_read_lock", "release_read_lock"]),
}
each_held = pytest.mark.parametrize("what", HELD)


def hold_for_ever(lock: Any, held: Gate) -> None:
    (lock.acquire_write_lock if isinstance(lock, RWLock) else lock.acquire)()
    held.open()
    while True:
        time.sleep(60)


def try_to_use(lock: Any, names: list[str], filters: Any, poll: bool) -> str:
    acquire, release = (getattr(lock, name) for name in names)
    with warnings.catch_warnings(record=filters == "always") as told:
        warnings.simplefilter(filters)
        try:
            while not acquire(not poll):
                time.sleep(0.001)
        except (OwnerDiedWarning, OwnerDiedError) as error:
            return type(error).__name__
        release()
    return "told" if told else "silent"


@each_held
@pytest.mark.parametrize("filters", ["always", "error"])
@pytest.mark.parametrize("poll", [False, True], ids=["wait", "poll"])
@isolated(limit=120)
def test_one_of_many_is_told_of_a_death(what: str, filters: str, poll: bool) -> None:
    """Also as an error, and then the lock goes on to the next."""
    make, names = HELD[what]
    lock = make()
    for _ in range(2):
        held = Gate()
        victim = Forked(hold_for_ever, lock, held)
        held.wait()
        others = [Forked(try_to_use, lock, names, filters, poll) for _ in range(4)]
        if not poll:
            for other in others:
                wait_until_asleep(other.pid)
        victim.kill()
        outcomes = sorted(other.result() for other in others)
        told = "told" if filters == "always" else "OwnerDiedWarning"
        assert outcomes == sorted([told, "silent", "silent", "silent"])
        held.close()
    lock.close()


@each_held
@isolated(limit=120)
def test_all_are_refused_until_one_of_many_recovers(what: str) -> None:
    make, names = HELD[what]
    lock = make(on_owner_death="raise")
    inner = lock._lock if isinstance(lock, Condition) else lock
    for acquire in (False, True):
        held = Gate()
        victim = Forked(hold_for_ever, lock, held)
        held.wait()
        others = [Forked(try_to_use, lock, names, "error", poll) for poll in (False, True) * 2]
        time.sleep(0.05)
        victim.kill()
        assert [other.result() for other in others] == ["OwnerDiedError"] * 4
        assert inner.owner()[:3] == (victim.pid, victim.pid, False)

        def recover(acquire: bool = acquire) -> bool:
            recovered = inner.recover(acquire=acquire)
            if recovered and acquire:
                (inner.release_write_lock if isinstance(inner, RWLock) else inner.release)()
            return bool(recovered)

        assert sorted(one.result() for one in [Forked(recover) for _ in range(4)]) == [
            False,
            False,
            False,
            True,
        ]
        assert try_to_use(lock, names, "error", True) == "silent"
        held.close()
    lock.close()


@each_held
@each_kills
@isolated(limit=120)
def test_warnings_that_are_errors_leave_nothing_held(what: str, kills: int) -> None:
    """With holders killed at random moments, some of them while they raise it."""
    make, (acquire, release) = HELD[what]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lock = make()

        def turn(member: Member) -> bool:
            try:
                getattr(lock, acquire)()
            except OwnerDiedWarning:
                return True
            member.linger()
            getattr(lock, release)()
            return True

        crew = Crew(turn, 3, seed=kills)
        for _ in range(kills):
            crew.rest()
            crew.replace(2)
            crew.everybody_advances(2)
        crew.finish()
        try_to_use(lock, [acquire, release], "ignore", False)
        assert try_to_use(lock, [acquire, release], "error", True) == "silent"
        lock.close()


# --- barriers -----------------------------------------------------------------------------------


def meet(barrier: Any) -> str:
    try:
        return str(barrier.wait())
    except BrokenBarrierError:
        return "broken"


@pytest.mark.parametrize("stopped", [False, True])
@each_kills
@isolated(limit=120)
def test_an_arrived_party_that_is_killed_breaks_the_barrier(kills: int, stopped: bool) -> None:
    rng = random.Random(kills)
    with made(Barrier, parties=4) as barrier:
        for _ in range(kills):
            parties = [Forked(meet, barrier) for _ in range(3)]
            while barrier.n_waiting < 3:
                time.sleep(0.001)
            victim = parties.pop(rng.randrange(3))
            if stopped:
                victim.stop()
            victim.kill()
            if rng.random() < 0.5:  # who sleeps finds out, and who arrives
                assert meet(barrier) == "broken"
            assert [party.result() for party in parties] == ["broken", "broken"]
            assert barrier.broken
            barrier.reset()
            parties = [Forked(meet, barrier) for _ in range(3)]
            outcomes = [meet(barrier), *(party.result() for party in parties)]
            assert sorted(outcomes) == ["0", "1", "2", "3"]


@each_kills
@isolated(limit=120)
def test_all_meet_or_none_when_one_is_killed_as_the_last_arrives(kills: int) -> None:
    rng = random.Random(kills)
    with made(Barrier, parties=3) as barrier:
        for _ in range(kills):
            parties = [Forked(meet, barrier) for _ in range(3)]
            time.sleep(rng.random() / 100)
            victim = parties.pop(rng.randrange(3))
            victim.kill()
            time.sleep(rng.random() / 50)
            barrier.abort()  # it may not have come at all
            outcomes = [party.result() for party in parties]
            assert all(outcome == "broken" or outcome in "012" for outcome in outcomes)
            barrier.reset()
            assert barrier.n_waiting == 0


@isolated(limit=120)
def test_a_party_stopped_on_its_way_out_delays_the_next_round_and_breaks_nothing() -> None:
    with made(Barrier, parties=2) as barrier:
        for _ in range(10):
            first = Forked(lambda: [meet(barrier) for _ in range(3)])
            rounds = [meet(barrier)]
            first.stop()
            second = Forked(lambda: [meet(barrier) for _ in range(2)])
            time.sleep(0.005)
            first.cont()
            rounds += second.result()
            assert sorted(first.result() + rounds) == ["0", "0", "0", "1", "1", "1"]


# --- units --------------------------------------------------------------------------------------


@each_kills
@isolated(limit=120)
def test_all_units_of_the_dead_reach_sleepers(kills: int) -> None:
    rng = random.Random(kills)
    with made(BoundedSemaphore, value=5) as units:
        for _ in range(kills):
            mine = rng.randrange(3)
            for _ in range(mine):
                units.acquire()
            held = Gate()
            holder = Forked(hold_rest, units, held)
            held.wait()
            sleepers = [Forked(units.acquire) for _ in range(5 - mine)]
            time.sleep(rng.random() / 50)
            holder.kill()
            assert [sleeper.result() for sleeper in sleepers] == [True] * (5 - mine)
            assert units.get_value() == 5 - mine  # they have ended, too
            give(units, mine)
            held.close()


def hold_rest(units: Any, held: Gate) -> None:
    take_all(units)
    held.open()
    while True:
        time.sleep(60)


# --- one writer or many readers -----------------------------------------------------------------


@each_kills
@isolated(limit=120)
def test_a_killed_reader_lets_a_sleeping_writer_on(kills: int) -> None:
    with made(RWLock) as lock, warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(kills):
            held = Gate()
            readers = [Forked(read_for_ever, lock, held) for _ in range(3)]
            for _ in readers:
                held.wait()
            assert lock.readers == 3
            writer = Forked(write_once, lock)
            if kills == FEW:
                wait_until_asleep(writer.pid)
            for reader in readers:
                reader.kill()
            assert writer.result() is True
            assert lock.readers == 0
            held.close()


def read_for_ever(lock: Any, held: Gate) -> None:
    lock.acquire_read_lock()
    held.open()
    while True:
        time.sleep(60)


@pytest.mark.parametrize("policy", ["warn", "raise"])
@isolated(limit=120)
def test_a_writer_killed_while_it_waits_for_readers_has_written_nothing(policy: str) -> None:
    with made(RWLock, on_owner_death=policy) as lock, warnings.catch_warnings():
        warnings.simplefilter("error")
        for then in (read_once, write_once):
            lock.acquire_read_lock()
            writer = Forked(lock.acquire_write_lock)
            while lock.owner() is None:
                time.sleep(0.001)
            queued = [Forked(then, lock), Forked(read_once, lock)]
            writer.kill()
            if then is read_once:
                assert [one.result() for one in queued] == [True, True]
            lock.release_read_lock()
            if then is write_once:
                assert [one.result() for one in queued] == [True, True]


@pytest.mark.parametrize("policy", ["warn", "raise"])
@isolated(limit=120)
def test_recovering_does_not_make_a_writer_beside_readers(policy: str) -> None:
    with made(RWLock, on_owner_death=policy) as lock:
        lock.acquire_read_lock()
        writer = Forked(lock.acquire_write_lock)
        while lock.owner() is None:
            time.sleep(0.001)
        writer.kill()
        assert lock.recover(acquire=True) is False
        assert lock.owner() is None
        assert lock.readers == 1
        assert lock.acquire_read_lock(False)
        assert lock.acquire_write_lock(False) is False
