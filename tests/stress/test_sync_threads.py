"""Threads of several processes at one object, each a member of the crew; processes are stopped,
killed and replaced, with all their threads in whatever they were doing."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from crews import ENDING, STATE, Crew, Member
from helpers import LOCK_CLASSES, Forked, in_child, in_thread, made
from isolation import isolated

from shmipc import (
    AtomicInt64,
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    OwnerDiedWarning,
    RLock,
    RWLock,
    Semaphore,
)

EVENTS = [pytest.param(12, id="short"), pytest.param(1000, id="long", marks=pytest.mark.stress)]
each_length = pytest.mark.parametrize("events", EVENTS)
LIMIT = 180


def play(turn: Callable[[Member], bool], events: int, **weights: int) -> None:
    with warnings.catch_warnings():  # of the process, so before its threads begin
        warnings.simplefilter("ignore", OwnerDiedWarning)
        crew = Crew(turn, 3, seed=events, threads=3)
        crew.play(events, **weights)
        crew.everybody_advances()
        crew.finish()


def visit(member: Member, allowed: Callable[[list[int]], bool], how: int = 1) -> None:
    member.enter(how)
    for _ in range(3):
        inside = member.inside()
        assert allowed(inside), inside
    member.linger()
    assert allowed(member.inside())
    member.leave()


@each_length
@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated(LIMIT)
def test_a_lock(cls: Any, events: int) -> None:
    def turn(member: Member) -> bool:
        got = lock.acquire(timeout=member.rng.choice((None, 0.002)))
        if got:
            visit(member, lambda inside: inside == [1])
            lock.release()
        return bool(got)

    with made(cls) as lock:
        play(turn, events)
        assert lock.owner() is None


@each_length
@isolated(LIMIT)
def test_an_rlock_taken_many_times(events: int) -> None:
    def turn(member: Member) -> bool:
        depth = member.rng.randrange(1, 4)
        if not lock.acquire(timeout=member.rng.choice((None, 0.002))):
            return False
        for _ in range(depth):
            assert lock.acquire(False)
        visit(member, lambda inside: inside == [1])
        for _ in range(depth + 1):
            lock.release()
        with pytest.raises(AssertionError):
            lock.release()
        return True

    with made(RLock) as lock:
        play(turn, events)


@each_length
@isolated(LIMIT)
def test_a_bounded_semaphore(events: int) -> None:
    def turn(member: Member) -> bool:
        got = units.acquire(timeout=member.rng.choice((None, 0.002)))
        if got:
            visit(member, lambda inside: len(inside) <= 4)
            units.release()
        return bool(got)

    with made(BoundedSemaphore, value=4) as units:
        play(turn, events)
        assert units.get_value() == 4


@each_length
@isolated(LIMIT)
def test_a_semaphore(events: int) -> None:
    def turn(member: Member) -> bool:
        got = units.acquire(timeout=member.rng.choice((None, 0.002)))
        if got:
            visit(member, lambda inside: len(inside) <= 4)
            units.release()
        return bool(got)

    with made(Semaphore, value=4) as units:
        play(turn, events, replace=0)
        assert units.get_value() == 4


@each_length
@isolated(LIMIT)
def test_a_rwlock(events: int) -> None:
    def turn(member: Member) -> bool:
        timeout = member.rng.choice((None, 0.002))
        if member.rng.random() < 0.7:
            if lock.acquire_read_lock(timeout=timeout):
                visit(member, lambda inside: 2 not in inside)
                lock.release_read_lock()
                return True
        elif lock.acquire_write_lock(timeout=timeout):
            visit(member, lambda inside: inside == [2], 2)
            lock.release_write_lock()
            return True
        return False

    with made(RWLock) as lock:
        play(turn, events)
        assert lock.readers == 0
        assert lock.owner() is None


@each_length
@isolated(LIMIT)
def test_a_condition(events: int) -> None:
    """Tokens go round by it: who takes one gives it to who waits."""

    def turn(member: Member) -> bool:
        with condition:
            timeout = member.rng.choice((None, 0.002))
            condition.wait_for(lambda: member.words[STATE] or member.words[ENDING], timeout)
            got = member.words[STATE] > 0
            if got:
                member.words[STATE] -= 1
        if got:
            visit(member, lambda inside: len(inside) <= 4)
            with condition:
                member.words[STATE] += 1
                condition.notify()
        return got

    with made(Condition) as condition:
        crew = Crew(turn, 3, seed=events, threads=3)
        crew.words[STATE] = 4
        with condition:
            condition.notify_all()
        crew.play(events, replace=0)
        crew.everybody_advances()
        crew.end()
        with condition:
            condition.notify_all()
        crew.finish()
        assert crew.words[STATE] == 4
        assert condition._waiting() == 0


@each_length
@isolated(LIMIT)
def test_a_barrier(events: int) -> None:
    """Threads are parties of their own."""
    with made(Barrier, parties=6) as barrier, made(AtomicInt64) as sum_of_indices:

        def meet() -> None:
            for _ in range(events * 5):
                sum_of_indices.add(barrier.wait())

        def in_threads() -> None:
            for thread in [in_thread(meet) for _ in range(3)]:
                thread()

        for child in [Forked(in_threads) for _ in range(2)]:
            child.result()
        assert sum_of_indices.load() == 15 * events * 5


@each_length
@isolated(LIMIT)
def test_an_event(events: int) -> None:
    """Two events in turn: whoever waits for one is let go by the last who waited for the other."""

    def turn(member: Member) -> bool:
        return bool(event.wait(0.05))

    def toggle() -> None:
        while not stop.is_set():
            event.set()
            event.clear()

    stop = threading.Event()
    with made(Event) as event:
        toggler = in_thread(toggle)
        try:
            play(turn, events)
        finally:
            stop.set()
            toggler()


# --- fork in another thread ---------------------------------------------------------------------

USES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "Semaphore": (lambda: Semaphore(2), lambda units: units.acquire() and units.release()),
    "BoundedSemaphore": (
        lambda: BoundedSemaphore(2),
        lambda units: units.acquire() and units.release(),
    ),
    "Event": (Event, lambda event: (event.set(), event.wait(0.001), event.clear())),
    "Condition": (Condition, lambda condition: notify_and_wait(condition)),
    "Barrier": (lambda: Barrier(1), lambda barrier: barrier.wait()),
    "RWLock": (RWLock, lambda lock: read_and_write(lock)),
    "AtomicInt64": (AtomicInt64, lambda number: number.wait(number.add() - 1)),
}


def notify_and_wait(condition: Any) -> None:
    with condition:
        condition.notify()
        condition.wait(0.0001)


def read_and_write(lock: Any) -> None:
    with lock.read_lock():
        pass
    with lock.write_lock():
        pass


@pytest.mark.parametrize("what", USES)
@isolated(limit=120)
def test_forks_while_threads_are_in_the_middle(what: str) -> None:
    """Whatever moment of a thread's call a fork hits, parent and child go on."""
    make, use = USES[what]
    thing = make()
    stop = threading.Event()

    def toggle() -> None:
        while not stop.is_set():
            use(thing)

    threads = [in_thread(toggle) for _ in range(2)]
    for _ in range(25):
        in_child(lambda: [use(thing) for _ in range(5)])
    stop.set()
    for thread in threads:
        thread()
    thing.close()


@pytest.mark.parametrize("what", USES)
@isolated(limit=120)
def test_objects_are_made_used_and_dropped_by_threads_that_fork(what: str) -> None:
    """New ones are never over cells that somebody uses still."""
    make, use = USES[what]

    def work() -> None:
        for _ in range(30):
            thing = make()
            before = repr(thing)
            use(thing)
            if what not in ("AtomicInt64", "Event"):
                assert repr(thing) == before
            in_child(use, thing)

    for thread in [in_thread(work) for _ in range(3)]:
        thread()
