"""What the synchronisation set has beyond multiprocessing's, and its bad arguments."""

from __future__ import annotations

import os
import pickle
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Forked, Gate, die_with, in_child, in_thread, made, wait_until_asleep
from isolation import isolated

import shmipc
from shmipc import (
    AtomicInt64,
    AtomicUInt64,
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    ClosedError,
    Condition,
    Event,
    LayoutError,
    Lock,
    OwnerDiedError,
    OwnerDiedWarning,
    RLock,
    RWLock,
    Semaphore,
    SemaphoreLock,
    ShmipcError,
)

ATOMICS = [AtomicInt64, AtomicUInt64]


# --- semaphores ---------------------------------------------------------------------------------


@isolated()
def test_units_of_the_dead() -> None:
    with made(Semaphore, value=3) as plain, made(BoundedSemaphore, value=3) as bounded:
        for units in (plain, bounded):
            die_with(lambda units=units: [units.acquire() for _ in range(2)])
        assert plain.get_value() == 1
        assert bounded.get_value() == 3
        assert [bounded.acquire(False) for _ in range(4)] == [True, True, True, False]


@isolated()
def test_a_waiter_gets_the_units_of_the_dead() -> None:
    with made(BoundedSemaphore, value=2) as units:
        held = Gate()

        def take_all() -> None:
            units.acquire()
            units.acquire()
            held.open()
            time.sleep(100)

        holder = Forked(take_all)
        held.wait()
        assert units.acquire(False) is False
        waiters = [Forked(units.acquire) for _ in range(2)]
        for waiter in waiters:
            wait_until_asleep(waiter.pid)
        holder.kill()
        assert [waiter.result() for waiter in waiters] == [True, True]
        held.close()


@isolated()
def test_a_bounded_unit_may_be_given_back_for_another() -> None:
    with made(BoundedSemaphore, value=2) as units:
        units.acquire()
        in_child(units.release)
        assert units.get_value() == 2
        with pytest.raises(ValueError):
            in_child(units.release)


@pytest.mark.parametrize("cls", [Semaphore, BoundedSemaphore])
def test_bad_values_of_a_semaphore(cls: Any) -> None:
    for value, error in (
        (-1, ValueError),
        (2**31, ValueError),
        ("1", TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error, match="value"):
            cls(value)
    with made(cls, value=2**31 - 1) as units:
        with pytest.raises(ValueError):
            units.release()
        assert units.get_value() == 2**31 - 1


def test_a_bound_is_compared_a_value_is_not(name: str) -> None:
    Semaphore.create(name, 3)
    assert Semaphore.open(name, 7).get_value() == 3
    Semaphore.unlink(name)
    BoundedSemaphore.create(name, 3)
    with pytest.raises(LayoutError, match="value=7"):
        BoundedSemaphore.open(name, 7)
    with pytest.raises(LayoutError):
        Semaphore.attach(name)
    BoundedSemaphore.unlink(name)


# --- events -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spin", [None, 0])
@isolated()
def test_an_event_that_is_cleared_at_once_lets_go_who_waits(spin: float | None) -> None:
    with made(Event, spin=spin) as event:
        for _ in range(5):
            waiters = [Forked(event.wait, 60) for _ in range(3)]
            for waiter in waiters:
                wait_until_asleep(waiter.pid)
            event.set()
            event.clear()
            assert [waiter.result() for waiter in waiters] == [True] * 3
            assert not event.is_set()


# --- conditions ---------------------------------------------------------------------------------


def test_a_condition_takes_only_our_locks() -> None:
    with pytest.raises(TypeError, match="lock: expected a shmipc lock or None, found lock"):
        Condition(threading.Lock())


@isolated()
def test_a_condition_with_a_name_and_a_lock_of_its_own_or_another(name: str) -> None:
    lock = Lock.create(name + "-lock")
    Condition.create(name, lock)
    with pytest.raises(LayoutError, match="lock: expected the one that it was made with"):
        Condition.attach(name)
    with pytest.raises(LayoutError, match="lock"):
        Condition.attach(name, lock=Lock())
    condition = Condition.attach(name, lock=Lock.attach(name + "-lock"))
    with lock:
        assert not in_thread(lambda: condition.acquire(False))()
    Condition.unlink(name)
    Condition.create(name)
    with pytest.raises(LayoutError, match="lock: expected its own"):
        Condition.attach(name, lock=lock)
    Condition.unlink(name)
    lock.unlink()


@pytest.mark.parametrize("cls", [Lock, RLock, SemaphoreLock, None])
@isolated()
def test_a_condition_travels_with_its_lock(cls: Any) -> None:
    lock = cls() if cls else None
    condition = Condition(lock)
    other = pickle.loads(pickle.dumps(condition))
    with condition:
        assert in_thread(lambda: other.acquire(False))() is False
    with other:
        assert in_thread(lambda: condition.acquire(False))() is False


@isolated()
def test_the_longest_waiting_is_notified_first() -> None:
    with made(Condition) as condition:
        waiters = []
        for _ in range(4):
            waiters.append(Forked(_wait_once, condition))
            while condition._waiting() < len(waiters):
                time.sleep(0.001)
        for _ in range(4):
            with condition:
                condition.notify()
            assert waiters.pop(0).result() is True


def until_waiting(condition: Any, people: int) -> None:
    """They have released the lock, too."""
    while True:
        with condition:
            if condition._waiting() >= people:
                return
        time.sleep(0.001)


def _wait_once(condition: Any) -> bool:
    with condition:
        return bool(condition.wait(60))


@isolated()
def test_a_killed_waiter_is_not_notified() -> None:
    with made(Condition) as condition:
        waiters = [Forked(_wait_once, condition) for _ in range(3)]
        while condition._waiting() < 3:
            time.sleep(0.001)
        for waiter in waiters[:2]:
            waiter.kill()
        assert condition._waiting() == 1
        with condition:
            condition.notify()
        assert waiters[2].result() is True


@isolated()
def test_a_notification_of_a_stopped_and_killed_waiter_goes_on() -> None:
    with made(Condition, spin=0) as condition:
        for _ in range(10):
            first = Forked(_wait_once, condition)
            until_waiting(condition, 1)  # and not still under the lock
            first.stop()
            second = Forked(_wait_once, condition)
            until_waiting(condition, 2)
            with condition:
                condition.notify()  # the first's
            assert condition._waiting() == 1
            first.kill()
            assert second.result() is True


@isolated()
def test_coming_back_from_a_wait_to_a_dead_holder() -> None:
    for filters, expected in (("always", True), ("error", OwnerDiedWarning)):
        with made(Condition) as condition:
            waiter = Forked(_wait_under, condition, filters)
            while condition._waiting() < 1:
                time.sleep(0.001)

            def notify_and_die() -> None:
                condition.acquire()
                condition.notify()

            die_with(notify_and_die)
            if expected is True:
                assert waiter.result() is True
            else:
                with pytest.raises(OwnerDiedWarning):
                    waiter.result()
            assert condition.acquire(timeout=60)
            condition.release()


def _wait_under(condition: Any, filters: Any) -> bool:
    with warnings.catch_warnings(record=filters == "always"):
        warnings.simplefilter(filters)
        with condition:
            return bool(condition.wait(60))


@isolated()
def test_coming_back_from_a_wait_to_a_lock_that_raises() -> None:
    condition = Condition(Lock(on_owner_death="raise"))
    waiter = Forked(_wait_once, condition)
    while condition._waiting() < 1:
        time.sleep(0.001)

    def notify_and_die() -> None:
        condition.acquire()
        condition.notify()

    die_with(notify_and_die)
    with pytest.raises(OwnerDiedError):  # not the ValueError of a release
        waiter.result()
    assert condition._lock.recover()


@isolated(limit=120)
def test_more_waiters_than_there_are_places() -> None:
    with made(Condition) as condition:
        results: list[Any] = []

        def wait() -> None:
            with condition:
                try:
                    results.append(condition.wait(100))
                except shmipc.BusyError:
                    results.append(None)

        threading.stack_size(256 * 1024)
        threads = [threading.Thread(target=wait) for _ in range(514)]
        for thread in threads:
            thread.start()
        while condition._waiting() < 512 or len(results) < 2:
            time.sleep(0.01)
        assert results == [None, None]
        with condition:
            condition.notify_all()
        for thread in threads:
            thread.join()
        assert results.count(True) == 512


# --- barriers -----------------------------------------------------------------------------------


def test_bad_parameters_of_a_barrier() -> None:
    for arguments, error in (
        ((0,), ValueError),
        ((-1,), ValueError),
        (("2",), TypeError),
        ((2, "action"), TypeError),
        ((2, None, "1"), TypeError),
    ):
        with pytest.raises(error):
            Barrier(*arguments)


def test_our_error_is_theirs() -> None:
    assert issubclass(BrokenBarrierError, threading.BrokenBarrierError)
    assert issubclass(BrokenBarrierError, ShmipcError)
    with made(Barrier) as barrier:
        barrier.abort()
        with pytest.raises(BrokenBarrierError, match="broken"):
            barrier.wait()


@isolated()
def test_a_party_that_dies_breaks_the_barrier() -> None:
    with made(Barrier, parties=3) as barrier:
        others = [Forked(barrier.wait) for _ in range(2)]
        while barrier.n_waiting < 2:
            time.sleep(0.001)
        others[0].kill()
        with pytest.raises(BrokenBarrierError):
            others[1].result()
        assert barrier.broken
        with pytest.raises(BrokenBarrierError):
            barrier.wait()
        barrier.reset()
        assert not barrier.broken
        parties = [Forked(barrier.wait) for _ in range(2)]
        assert sorted([barrier.wait(60), *(party.result() for party in parties)]) == [0, 1, 2]


@isolated()
def test_who_arrives_last_meets_no_dead() -> None:
    with made(Barrier, parties=2) as barrier:
        other = Forked(barrier.wait)
        while barrier.n_waiting < 1:
            time.sleep(0.001)
        other.kill()
        with pytest.raises(BrokenBarrierError):
            barrier.wait(60)


@isolated()
def test_a_death_in_the_action_breaks_the_barrier() -> None:
    with made(Barrier, parties=2, action=lambda: os._exit(3)) as barrier:
        others = [Forked(_meet, barrier) for _ in range(2)]
        found = []
        for other in others:
            try:
                found.append(other.result())
            except AssertionError as error:
                found.append(str(error))
        assert sorted("without a result" in str(outcome) for outcome in found) == [False, True]
        assert "broken" in found


def _meet(barrier: Any) -> str:
    try:
        barrier.wait(60)
    except BrokenBarrierError:
        return "broken"
    return "met"


@isolated()
def test_who_died_on_his_way_out_holds_nobody_up() -> None:
    with made(Barrier, parties=2) as barrier:
        for _ in range(30):
            victim = Forked(_meet_for_ever, barrier)
            for _ in range(3):
                assert barrier.wait(60) in (0, 1)
            victim.kill()
            barrier.reset()


def _meet_for_ever(barrier: Any) -> None:
    while True:
        barrier.wait()


# --- one writer or many readers -----------------------------------------------------------------


def test_readers_share_and_writers_do_not() -> None:
    with made(RWLock) as lock:
        with lock.read_lock() as entered, lock.read_lock():
            assert entered is lock
            assert lock.readers == 2
            assert lock.acquire_write_lock(False) is False
            assert lock.acquire_write_lock(timeout=0.01) is False
            assert lock.acquire_read_lock(False) is True  # a refused writer leaves nothing
            lock.release_read_lock()
        assert lock.readers == 0
        with lock.write_lock():
            assert lock.owner().pid == os.getpid()
            assert lock.acquire_read_lock(False) is False
            assert lock.acquire_read_lock(timeout=0.01) is False
            assert lock.acquire_write_lock(False) is False
        assert lock.owner() is None
        assert lock.stats().acquisitions >= 1


@isolated()
def test_a_rwlock_is_released_by_who_has_it() -> None:
    with made(RWLock) as lock:
        for release in (lock.release_read_lock, lock.release_write_lock):
            with pytest.raises(ValueError, match="does not hold"):
                release()
        with lock.write_lock(), pytest.raises(ValueError):
            in_child(lock.release_write_lock)
        with lock.read_lock(), pytest.raises(ValueError):
            in_child(lock.release_read_lock)


@isolated()
def test_a_waiting_writer_keeps_new_readers_out_and_gives_way() -> None:
    with made(RWLock) as lock:
        lock.acquire_read_lock()
        writer = Forked(lambda: lock.acquire_write_lock() and lock.release_write_lock())
        while lock.owner() is None:
            time.sleep(0.001)
        assert lock.acquire_read_lock(False) is False
        reader = Forked(lock.acquire_read_lock)
        wait_until_asleep(reader.pid)
        lock.release_read_lock()
        writer.result()
        assert reader.result() is True


@isolated()
def test_dead_readers_and_writers_let_go() -> None:
    with made(RWLock) as lock:
        die_with(lock.acquire_read_lock)
        assert lock.acquire_write_lock(False)
        lock.release_write_lock()
        for acquire, release in (
            (lock.acquire_read_lock, lock.release_read_lock),
            (lock.acquire_write_lock, lock.release_write_lock),
        ):
            pid = die_with(lock.acquire_write_lock)
            with pytest.warns(OwnerDiedWarning, match=f"process {pid} "):
                assert acquire(False)
            release()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert acquire(False)
                release()


@isolated()
def test_a_writer_that_died_waiting_is_nobodys_business() -> None:
    with made(RWLock) as lock:
        lock.acquire_read_lock()
        writer = Forked(lock.acquire_write_lock)
        while lock.owner() is None:
            time.sleep(0.001)
        writer.kill()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert lock.acquire_read_lock(timeout=60)


@isolated()
def test_a_warning_that_is_an_error_leaves_a_rwlock_free() -> None:
    with made(RWLock) as lock, warnings.catch_warnings():
        warnings.simplefilter("error")
        for acquire in (lock.acquire_read_lock, lock.acquire_write_lock):
            die_with(lock.acquire_write_lock)
            with pytest.raises(OwnerDiedWarning):
                acquire()
            assert lock.readers == 0
            assert lock.acquire_write_lock(False)
            lock.release_write_lock()


@isolated()
def test_a_rwlock_that_raises() -> None:
    with made(RWLock, on_owner_death="raise") as lock:
        die_with(lock.acquire_write_lock)
        for _ in range(2):
            for acquire in (lock.acquire_read_lock, lock.acquire_write_lock):
                with pytest.raises(OwnerDiedError, match="recover"):
                    acquire()
        assert lock.recover(acquire=True)
        assert lock.acquire_read_lock(False) is False
        lock.release_write_lock()
        die_with(lock.acquire_write_lock)
        assert lock.recover() is True
        assert lock.recover() is False
        with lock.read_lock():
            pass


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ATOMICS)
def test_a_number(cls: Any) -> None:
    with made(cls, value=5) as number:
        assert number.load() == 5
        assert number.store(7) is None
        assert number.exchange(9) == 7
        assert number.compare_exchange(7, 1) is False
        assert number.compare_exchange(9, 1) is True
        assert number.add() == 2
        assert number.add(10) == 12
        assert number.add(-12) == 0
        assert number.wait(1) == 0
        assert number.wait(0, 0.01) == 0
        assert number.wait(0, -1) == 0


@pytest.mark.parametrize(
    ("cls", "least", "most"),
    [(AtomicInt64, -(2**63), 2**63 - 1), (AtomicUInt64, 0, 2**64 - 1)],
)
def test_the_limits_of_a_number(cls: Any, least: int, most: int) -> None:
    with made(cls) as number:
        for value, step in ((least, -1), (most, 1)):
            number.store(value)
            assert number.load() == value
            with pytest.raises(OverflowError):
                number.add(step)
            for use in (number.store, number.exchange, cls):
                with pytest.raises(OverflowError):
                    use(value + step)
            with pytest.raises(OverflowError):
                number.compare_exchange(value + step, 0)
            assert number.load() == value


@pytest.mark.parametrize("cls", ATOMICS)
@isolated()
def test_sums_are_exact(cls: Any) -> None:
    with made(cls) as number:

        def add() -> None:
            threads = [in_thread(lambda: [number.add() for _ in range(5000)]) for _ in range(2)]
            for thread in threads:
                thread()

        for child in [Forked(add) for _ in range(4)]:
            child.result()
        assert number.load() == 40000


@pytest.mark.parametrize("spin", [None, 0])
@isolated()
def test_a_change_wakes_who_waits_for_it(spin: float | None) -> None:
    with made(AtomicInt64, spin=spin) as number:
        for turn in range(100):
            waiter = Forked(number.wait, turn, 60)
            number.store(turn + 1)
            assert waiter.result() == turn + 1


# --- all ----------------------------------------------------------------------------------------

WAITS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "semaphore": (Semaphore, lambda units: (units.acquire(), units.acquire())),
    "bounded semaphore": (BoundedSemaphore, lambda units: (units.acquire(), units.acquire())),
    "event": (Event, lambda event: event.wait()),
    "condition": (Condition, lambda condition: (condition.acquire(), condition.wait())),
    "barrier": (Barrier, lambda barrier: barrier.wait()),
    "read": (RWLock, lambda lock: (lock.acquire_write_lock(), lock.acquire_read_lock())),
    "write": (RWLock, lambda lock: (lock.acquire_read_lock(), lock.acquire_write_lock())),
    "number": (AtomicInt64, lambda number: number.wait(0)),
}


@pytest.mark.parametrize("spin", [None, 0])
@pytest.mark.parametrize("what", WAITS)
@isolated()
def test_close_ends_the_waits_of_this_handle(what: str, spin: float | None) -> None:
    cls, wait = WAITS[what]
    with made(cls, spin=spin) as thing:
        waiting = [in_thread(lambda: wait(thing)) for _ in range(1)]
        time.sleep(0.1)
        thing.close()
        for outcome in waiting:
            with pytest.raises(ClosedError):
                outcome()


@pytest.mark.parametrize("what", WAITS)
def test_a_closed_one_refuses(what: str) -> None:
    cls, wait = WAITS[what]
    with made(cls) as thing:
        thing.close()
        with pytest.raises(ClosedError):
            wait(thing)
        assert repr(thing) == f"<{cls.__name__} closed>"


@pytest.mark.parametrize("timeout", ["1", [], float("nan")], ids=str)
@pytest.mark.parametrize("cls", [Semaphore, BoundedSemaphore, Event, Barrier, RWLock])
def test_a_bad_timeout_is_refused_before_anything_is_touched(cls: Any, timeout: Any) -> None:
    with made(cls) as thing:
        wait = {
            Event: lambda: thing.wait(timeout),
            Barrier: lambda: thing.wait(timeout),
            RWLock: lambda: thing.acquire_write_lock(timeout=timeout),
        }.get(cls, lambda: thing.acquire(timeout=timeout))
        with pytest.raises((TypeError, ValueError), match="timeout"):
            wait()
        if cls is Barrier:
            assert thing.n_waiting == 0
        elif cls is RWLock:
            assert thing.owner() is None
        elif cls is not Event:
            assert thing.get_value() == 1


@isolated()
def test_thousands_of_each_cost_few_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd"))
    kinds = [Lock, RLock, Semaphore, BoundedSemaphore, Event, Condition, RWLock, AtomicInt64]
    things = [cls() for cls in kinds for _ in range(1000)]
    assert len(os.listdir("/proc/self/fd")) - before < 400
    assert things[0].acquire(False)
    assert not any(event.is_set() for event in things if isinstance(event, Event))
    del things


@isolated()
def test_cells_that_are_used_again_are_as_new() -> None:
    for _ in range(300):
        units = Semaphore(3)
        units.acquire()
        event = Event()
        assert not event.is_set()
        event.set()
        lock = Lock(on_owner_death="raise")
        with lock:
            pass
        assert lock.stats().acquisitions == 1
        assert Lock().stats().acquisitions == 0
        del units, event, lock
