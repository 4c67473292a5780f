"""Random schedules: 2 to 8 processes at one object, stopped, let go on, killed and replaced at
random moments.  What must never be is looked for in memory that is not shmipc's; and whoever lives
gets on.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from crews import ENDING, STATE, Crew, Member
from helpers import LOCK_CLASSES, Words, made
from isolation import isolated

from shmipc import (
    AtomicInt64,
    AtomicUInt64,
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    Condition,
    Event,
    Lock,
    OwnerDiedError,
    OwnerDiedWarning,
    RLock,
    RWLock,
    Semaphore,
)

EVENTS = [pytest.param(25, id="short"), pytest.param(1500, id="long", marks=pytest.mark.stress)]
each_length = pytest.mark.parametrize("events", EVENTS)
each_crowd = pytest.mark.parametrize("people", [2, 8])
LIMIT = 180


def in_some_way(acquire: Callable[..., bool], rng: random.Random) -> bool:
    """Waits, polls, or waits for a moment."""
    way = rng.randrange(4)
    if way == 0:
        return acquire(False)
    if way == 1:
        return acquire(timeout=rng.random() / 100)
    return acquire()


def look_around(member: Member, allowed: Callable[[list[int]], bool]) -> None:
    for _ in range(10):
        inside = member.inside()
        assert allowed(inside), f"inside: {inside}"
    member.linger()
    inside = member.inside()
    assert allowed(inside), f"inside, later: {inside}"


def visit(member: Member, allowed: Callable[[list[int]], bool], how: int = 1) -> None:
    member.enter(how)
    look_around(member, allowed)
    member.leave()


# --- locks --------------------------------------------------------------------------------------


@each_length
@each_crowd
@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated(LIMIT)
def test_a_lock_has_one_holder(cls: Any, people: int, events: int) -> None:
    def turn(member: Member) -> bool:
        with warnings.catch_warnings(), suppress(OwnerDiedWarning):
            warnings.simplefilter("error" if member.rng.random() < 0.5 else "ignore")
            if in_some_way(lock.acquire, member.rng):
                visit(member, lambda inside: inside == [1])
                lock.release()
                return True
        return False

    with made(cls) as lock:
        crew = Crew(turn, people, seed=events + people)
        crew.play(events)
        crew.everybody_advances()
        crew.finish()
        assert not lock.locked()
        assert lock.owner() is None


@each_length
@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated(LIMIT)
def test_a_lock_that_raises_is_recovered_by_one(cls: Any, events: int) -> None:
    def turn(member: Member) -> bool:
        try:
            held = in_some_way(lock.acquire, member.rng)
        except OwnerDiedError:
            acquire = member.rng.random() < 0.5
            held = lock.recover(acquire=acquire) and acquire
        if held:
            visit(member, lambda inside: inside == [1])
            lock.release()
        return held

    with made(cls, on_owner_death="raise") as lock:
        crew = Crew(turn, 4, seed=events)
        crew.play(events)
        crew.everybody_advances()
        crew.finish()
        assert lock.owner() is None
        assert lock.stats().owner_deaths <= crew.kills


# --- semaphores ---------------------------------------------------------------------------------


@each_length
@each_crowd
@isolated(LIMIT)
def test_no_more_units_are_out_than_there_are(people: int, events: int) -> None:
    bound = people // 2

    def turn(member: Member) -> bool:
        got = in_some_way(units.acquire, member.rng)
        if got:
            visit(member, lambda inside: len(inside) <= bound)
            units.release()
        return got

    with made(BoundedSemaphore, value=bound) as units:
        crew = Crew(turn, people, seed=events + people)
        crew.play(events)
        crew.everybody_advances()
        crew.finish()
        assert units.get_value() == bound
        with pytest.raises(ValueError):
            units.release()


@each_length
@isolated(LIMIT)
def test_a_death_takes_one_unit_of_a_semaphore_at_most(events: int) -> None:
    """And leaves none that was not there."""

    def turn(member: Member) -> bool:
        got = in_some_way(units.acquire, member.rng)
        if got:
            visit(member, lambda inside: len(inside) <= 3)
            units.release()
        return got

    with made(Semaphore, value=3) as units:
        crew = Crew(turn, 6, seed=events)
        for _ in range(events // 5):
            crew.play(5, replace=0)
            crew.replace(crew.rng.randrange(6))
            crew.everybody_advances(1)
            crew.pause()
            assert units.get_value() in (2, 3)
            if units.get_value() == 2:
                units.release()
            crew.go_on()
        crew.finish()
        assert units.get_value() == 3


@each_length
@isolated(LIMIT)
def test_no_unit_is_lost_with_killed_waiters(events: int) -> None:
    """What is given is taken by somebody who lives, but for what a dead one had taken."""

    def turn(member: Member) -> bool:
        assert units.acquire()
        taken.add()
        return True

    with made(Semaphore, value=0) as units, made(AtomicInt64) as taken:
        crew = Crew(turn, 4, seed=events)
        given = 0
        for _ in range(events):
            for _ in range(crew.rng.randrange(4)):
                units.release()
                given += 1
            crew.replace(crew.rng.randrange(4))
            crew.until(lambda: units.get_value() == 0)
        crew.disband()
        assert given - crew.kills <= taken.load() <= given


# --- events -------------------------------------------------------------------------------------

BEGUN, ENDED = STATE, STATE + 1


@each_length
@each_crowd
@isolated(LIMIT)
def test_an_event_lets_go_who_waits_and_nobody_else(people: int, events: int) -> None:
    def turn(member: Member) -> bool:
        ended = member.words[ENDED]
        if not event.wait(member.rng.choice((None, None, 0.005))):
            return False
        assert member.words[BEGUN] > ended, "let go by what was over before"
        return True

    with made(Event) as event:
        crew = Crew(turn, people, seed=events + people)
        for number in range(1, events + 1):
            crew.play(1)
            crew.words[BEGUN] = number
            event.set()
            event.clear()
            crew.words[ENDED] = number
        crew.words[BEGUN] = events + 1
        event.set()
        crew.everybody_advances()
        crew.finish()


# --- conditions ---------------------------------------------------------------------------------


class Buffer:
    """A number of items, which half of a crew puts and the other half takes, one at a time.

    An heir of the lock cannot know what the dead one has not said, so he says it to everybody.
    """

    def __init__(self, lock: Any, room: int) -> None:
        self.room = room
        self.lock = lock
        self.not_full, self.not_empty = Condition(lock), Condition(lock)

    def tell_all(self) -> None:
        self.not_full.notify_all()
        self.not_empty.notify_all()

    def turn(self, member: Member) -> bool:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with self.lock:
                return self.put_or_take(member, told)

    def put_or_take(self, member: Member, told: list[Any]) -> bool:
        mine, others = self.not_full, self.not_empty
        puts = member.number % 2 == 0
        if not puts:
            mine, others = others, mine

        def is_possible() -> bool:
            if told:
                told.clear()
                self.tell_all()
            count = member.words[STATE]
            return count < self.room if puts else count > 0

        mine.wait_for(
            lambda: is_possible() or member.words[ENDING], member.rng.choice((None, 0.01))
        )
        visit(member, lambda inside: inside == [1])
        possible = is_possible()
        if possible:
            member.words[STATE] += 1 if puts else -1
            others.notify()
        return possible


@each_length
@each_crowd
@pytest.mark.parametrize("cls", [Lock, RLock])
@isolated(LIMIT)
def test_no_notification_is_lost(cls: Any, people: int, events: int) -> None:
    """Each one goes to one process; if that dies before it acts on it, to another."""
    with made(cls) as lock:
        buffer = Buffer(lock, people // 2)
        crew = Crew(buffer.turn, people, seed=events + people)
        crew.play(events)
        crew.everybody_advances()
        crew.end()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with lock:
                buffer.tell_all()
        crew.finish()
        assert not lock.locked()
        assert buffer.not_full._waiting() == buffer.not_empty._waiting() == 0


# --- barriers -----------------------------------------------------------------------------------

AGE = 1 << 32  # of rounds; whoever finds the barrier broken waits for the next age


class Meeting:
    """A crew at a barrier that is broken now and then, and mended by who watches over it."""

    def __init__(self, barrier: Any, seed: int) -> None:
        self.barrier = barrier
        self.people = barrier.parties
        self.places, self.reports = Words(self.people), Words(self.people)
        self.crew = Crew(self.turn, self.people, seed)

    def turn(self, member: Member) -> bool:
        age = member.words[STATE]
        mine = max(self.places[member.number], age * AGE) + 1
        self.places[member.number] = mine
        try:
            index = self.barrier.wait(0.05 if member.rng.random() < 0.01 else None)
        except BrokenBarrierError:
            self.reports[member.number] = age + 1
            while member.words[STATE] == age:
                time.sleep(0.001)
            return False
        assert 0 <= index < self.people
        for other in range(self.people):
            assert self.places[other] >= mine, f"{other}: {self.places[other]:#x} < {mine:#x}"
        return True

    def mend(self, without: int | None = None) -> None:
        """When all that live know that it is broken, the next age begins."""
        age = self.crew.words[STATE]
        told = [number for number in range(self.people) if number != without]
        self.barrier.abort()
        self.crew.until(lambda: all(self.reports[n] == age + 1 for n in told), without)
        self.barrier.reset()
        assert not self.barrier.broken
        assert self.barrier.n_waiting == 0
        self.crew.words[STATE] = age + 1

    def mend_if_broken(self) -> None:
        if self.crew.words[STATE] + 1 in [self.reports[n] for n in range(self.people)]:
            self.mend()

    def something_happens(self) -> None:
        rng, number = self.crew.rng, self.crew.rng.randrange(self.people)
        event = rng.choice(("stop", "stop", "abort", "reset", "kill", "kill"))
        time.sleep(rng.random() / 100)
        if event == "stop":
            self.crew.stop(number)
            time.sleep(rng.random() / 100)
            self.crew.cont(number)
        elif event == "kill":
            self.crew.kill(number)
            if rng.random() < 0.5:
                time.sleep(rng.random() / 10)
            self.mend(number)
            self.crew.start(number)
        else:
            getattr(self.barrier, event)()

    def everybody_advances(self) -> None:
        wanted = [turns + 3 for turns in self.crew.turns()]

        def all_have() -> bool:
            self.mend_if_broken()
            return all(map(int.__ge__, self.crew.turns(), wanted))

        self.crew.until(all_have)


@each_length
@each_crowd
@isolated(LIMIT)
def test_nobody_passes_a_barrier_alone(people: int, events: int) -> None:
    with made(Barrier, parties=people) as barrier:
        meeting = Meeting(barrier, events + people)
        for _ in range(events):
            meeting.mend_if_broken()
            meeting.something_happens()
        meeting.everybody_advances()
        meeting.crew.disband()
        barrier.reset()
        assert barrier.n_waiting == 0


# --- one writer or many readers -----------------------------------------------------------------

READS, WRITES = 1, 2


def read(lock: Any, member: Member) -> bool:
    held = in_some_way(lock.acquire_read_lock, member.rng)
    if held:
        visit(member, lambda inside: WRITES not in inside, READS)
        lock.release_read_lock()
    return held


def write(lock: Any, member: Member) -> bool:
    held = in_some_way(lock.acquire_write_lock, member.rng)
    if held:
        finish_writing(lock, member)
    return held


def finish_writing(lock: Any, member: Member) -> None:
    visit(member, lambda inside: inside == [WRITES], WRITES)
    lock.release_write_lock()


@each_length
@each_crowd
@isolated(LIMIT)
def test_one_writes_or_many_read(people: int, events: int) -> None:
    def turn(member: Member) -> bool:
        with warnings.catch_warnings(), suppress(OwnerDiedWarning):
            warnings.simplefilter("error" if member.rng.random() < 0.5 else "ignore")
            return (read if member.rng.random() < 0.7 else write)(lock, member)
        return False

    with made(RWLock) as lock:
        crew = Crew(turn, people, seed=events + people)
        crew.play(events)
        crew.everybody_advances()
        crew.finish()
        assert lock.owner() is None
        assert lock.readers == 0


@each_length
@isolated(LIMIT)
def test_a_rwlock_that_raises_is_recovered_by_one(events: int) -> None:
    def turn(member: Member) -> bool:
        try:
            return (read if member.rng.random() < 0.7 else write)(lock, member)
        except OwnerDiedError:
            acquire = member.rng.random() < 0.5
            if lock.recover(acquire=acquire) and acquire:
                finish_writing(lock, member)
        return False

    with made(RWLock, on_owner_death="raise") as lock:
        crew = Crew(turn, 4, seed=events)
        crew.play(events)
        crew.everybody_advances()
        crew.finish()
        assert lock.owner() is None
        assert lock.readers == 0


@each_length
@pytest.mark.parametrize("few", [READS, WRITES], ids=["reader", "writer"])
@isolated(LIMIT)
def test_nobody_is_starved(few: int, events: int) -> None:
    """One reader among writers without a pause, one writer among readers whose turns overlap."""

    def turn(member: Member) -> bool:
        mine = few if member.number == 0 else READS + WRITES - few
        if mine == READS:
            lock.acquire_read_lock()
            look_around(member, lambda inside: True)
            lock.release_read_lock()
        else:
            with lock.write_lock():
                look_around(member, lambda inside: True)
        return True

    with made(RWLock) as lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crew = Crew(turn, 5, seed=events)
        crew.play(events)
        crew.everybody_advances(events)
        crew.finish()


# --- numbers ------------------------------------------------------------------------------------


@each_length
@pytest.mark.parametrize("cls", [AtomicInt64, AtomicUInt64])
@isolated(LIMIT)
def test_no_addition_is_lost_or_doubled(cls: Any, events: int) -> None:
    added = Words(8)

    def turn(member: Member) -> bool:
        number.add(3)
        added[member.number] = added[member.number] + 3
        return True

    with made(cls) as number:
        crew = Crew(turn, 8, seed=events)
        crew.play(events)
        crew.everybody_advances()
        crew.finish()
        total = sum(added[n] for n in range(8))
        assert total <= number.load() <= total + 3 * crew.kills


@each_length
@isolated(LIMIT)
def test_a_number_goes_round(events: int) -> None:
    """Each waits for the number before its own; whoever replaces one goes on where that was."""

    def turn(member: Member) -> bool:
        seen = number.load()
        if seen % 4 == member.number:
            assert number.compare_exchange(seen, seen + 1)
            return True
        assert number.wait(seen) > seen
        return False

    with made(AtomicInt64) as number:
        crew = Crew(turn, 4, seed=events)
        crew.play(events)
        crew.everybody_advances()
        crew.disband()
