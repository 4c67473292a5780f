"""Lock, RLock, SemaphoreLock in one process, and between a process and its fork children."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
from helpers import LOCK_CLASSES, Forked, Gate, in_child, made
from isolation import isolated

from shmipc import ClosedError, Lock, OwnerDiedWarning, RLock, Segment, SemaphoreLock

ROUNDS = 300

every_lock = pytest.mark.parametrize("cls", LOCK_CLASSES)
plain_lock = pytest.mark.parametrize("cls", [Lock, SemaphoreLock])


@every_lock
def test_acquire_and_release(cls: Any) -> None:
    with made(cls) as lock:
        assert not lock.locked()
        assert lock.acquire() is True
        assert lock.locked()
        assert lock.release() is None
        assert not lock.locked()


@every_lock
def test_with_acquires_and_releases_also_on_an_exception(cls: Any) -> None:
    with made(cls) as lock:
        with pytest.raises(KeyError), lock:
            assert lock.locked()
            raise KeyError
        assert not lock.locked()
        assert not lock.closed


@plain_lock
@pytest.mark.parametrize(
    "arguments",
    [(False,), (True, 0), (True, -1), (True, 0.01), {"block": False}, {"timeout": 0.01}],
    ids=str,
)
def test_a_held_lock_is_not_acquired(cls: Any, arguments: Any) -> None:
    with made(cls) as lock, lock:
        if isinstance(arguments, dict):
            assert lock.acquire(**arguments) is False
        else:
            assert lock.acquire(*arguments) is False


@every_lock
@isolated()
def test_a_lock_held_by_the_parent_is_not_acquired_by_a_child(cls: Any) -> None:
    with made(cls) as lock:
        with lock:
            assert in_child(lock.locked)
            assert not in_child(lock.acquire, False)
            assert not in_child(lock.acquire, True, 0.05)
        assert in_child(lock.acquire)
        with pytest.warns(OwnerDiedWarning):  # that child has ended without a release
            assert lock.acquire()
        lock.release()


@every_lock
@isolated()
def test_a_child_waits_until_the_parent_releases(cls: Any) -> None:
    with made(cls) as lock:
        lock.acquire()
        child = Forked(lambda: lock.acquire(timeout=60) and lock.release())
        lock.release()
        child.result()
        assert not lock.locked()


@every_lock
def test_another_thread_waits_until_release(cls: Any) -> None:
    with made(cls) as lock:
        lock.acquire()
        got = []
        thread = threading.Thread(target=lambda: got.append(lock.acquire(timeout=60)))
        thread.start()
        lock.release()
        thread.join()
        assert got == [True]


@plain_lock
def test_release_of_a_free_lock_is_a_value_error(cls: Any) -> None:
    with made(cls) as lock:
        with pytest.raises(ValueError):
            lock.release()
        lock.acquire()
        lock.release()
        with pytest.raises(ValueError):
            lock.release()
        assert lock.acquire(False)
        lock.release()


@plain_lock
@isolated()
def test_anyone_may_release(cls: Any) -> None:
    with made(cls) as lock:
        lock.acquire()
        in_child(lock.release)
        assert not lock.locked()
        lock.acquire()
        thread = threading.Thread(target=lock.release)
        thread.start()
        thread.join()
        assert not lock.locked()


def test_an_rlock_counts() -> None:
    with made(RLock) as lock:
        for _ in range(100):
            assert lock.acquire(False)
        for _ in range(100):
            assert lock.locked()
            lock.release()
        assert not lock.locked()


def test_release_of_an_rlock_by_another_is_an_assertion_error() -> None:
    with made(RLock) as lock:
        with pytest.raises(AssertionError):
            lock.release()
        lock.acquire()
        error = []
        thread = threading.Thread(target=lambda: error.append(_error_of(lock.release)))
        thread.start()
        thread.join()
        assert [type(e) for e in error] == [AssertionError]
        assert lock.locked()
        lock.release()


@isolated()
def test_a_fork_child_does_not_own_its_parents_rlock() -> None:
    with made(RLock) as lock, lock:
        assert isinstance(in_child(_error_of, lock.release), AssertionError)
        assert not in_child(lock.acquire, False)


def test_an_rlock_held_by_a_thread_is_not_acquired_by_another() -> None:
    with made(RLock) as lock, lock:
        got = []
        thread = threading.Thread(target=lambda: got.append(lock.acquire(timeout=0.01)))
        thread.start()
        thread.join()
        assert got == [False]


@every_lock
@isolated()
def test_a_dead_holders_lock_is_inherited_with_a_warning_once(cls: Any) -> None:
    with made(cls) as lock:
        assert in_child(lock.acquire)
        with pytest.warns(OwnerDiedWarning):
            assert lock.acquire()
        lock.release()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert lock.acquire()
            lock.release()


@every_lock
@isolated()
def test_a_living_holder_keeps_the_lock_though_it_stands_still(cls: Any) -> None:
    """Nothing live is reclaimed because time has passed."""
    with made(cls) as lock:
        held, leave = Gate(), Gate()
        child = Forked(_hold, lock, held, leave)
        held.wait()
        child.stop()
        assert not lock.acquire(timeout=1.5)
        child.cont()
        leave.open()
        assert child.result()
        assert lock.acquire(timeout=60)
        lock.release()
        held.close()
        leave.close()


@every_lock
@pytest.mark.parametrize("arguments", [{"timeout": "1"}, {"timeout": []}, {"nonsense": 1}], ids=str)
def test_acquire_refuses_bad_arguments(cls: Any, arguments: dict[str, Any]) -> None:
    with made(cls) as lock:
        with pytest.raises(TypeError):
            lock.acquire(**arguments)
        assert not lock.locked()


@every_lock
def test_every_method_after_close_is_a_closed_error(cls: Any) -> None:
    lock = cls()
    lock.close()
    for use in (lock.acquire, lock.release, lock.locked, lock.__enter__):
        with pytest.raises(ClosedError):
            use()


@every_lock
def test_a_thousand_locks(cls: Any) -> None:
    locks = [cls() for _ in range(1000)]
    for lock in locks:
        assert lock.acquire(False)
    assert all(lock.locked() for lock in locks)
    for lock in locks:
        lock.release()
        lock.close()


@every_lock
@isolated()
def test_the_lock_excludes(cls: Any) -> None:
    """Four processes of two threads count in shared bytes that only the lock protects."""
    with made(cls) as lock, made(Segment, size=8) as segment:
        children = [Forked(_count_in_two_threads, lock, segment) for _ in range(4)]
        for child in children:
            child.result()
        assert int.from_bytes(segment.buf, "little") == 8 * ROUNDS


def _count_in_two_threads(lock: Any, segment: Segment) -> None:
    def count() -> None:
        for _ in range(ROUNDS):
            with lock:
                value = int.from_bytes(segment.buf, "little")
                segment.buf[:] = (value + 1).to_bytes(8, "little")

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _hold(lock: Any, held: Gate, leave: Gate) -> bool:
    with lock:
        held.open()
        leave.wait()
    return True


def _error_of(function: Any) -> BaseException | None:
    try:
        function()
    except BaseException as error:
        return error
    return None
