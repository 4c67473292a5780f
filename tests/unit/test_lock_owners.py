"""Whose a lock is, and what it means that he died."""

from __future__ import annotations

import os
import threading
import time
import warnings
from typing import Any

import pytest
from helpers import (
    LOCK_CLASSES,
    Forked,
    Gate,
    die_with,
    in_child,
    in_thread,
    made,
    wait_until_asleep,
)
from isolation import isolated

from shmipc import (
    LayoutError,
    Lock,
    OwnerDiedError,
    OwnerDiedWarning,
    RLock,
    SemaphoreLock,
)

every_lock = pytest.mark.parametrize("cls", LOCK_CLASSES)
plain_lock = pytest.mark.parametrize("cls", [Lock, SemaphoreLock])


@every_lock
@isolated()
def test_the_warning_names_the_dead_process(cls: Any) -> None:
    with made(cls) as lock:
        pid = die_with(lock.acquire)
        with pytest.warns(
            OwnerDiedWarning, match=rf"process {pid} \(.+\) died holding <{cls.__name__}"
        ):
            lock.acquire()
        lock.release()


@every_lock
@isolated()
def test_the_warning_says_since_when_if_somebody_has_slept(cls: Any) -> None:
    with made(cls, spin=0) as lock:
        held = Gate()

        def hold() -> None:
            lock.acquire()
            held.open()
            time.sleep(100)

        holder = Forked(hold)
        held.wait()
        waiter = Forked(_acquire_and_tell, lock)
        wait_until_asleep(waiter.pid)
        owner = lock.owner()
        assert owner is not None
        assert owner.pid == holder.pid
        assert owner.alive
        assert owner.since is not None
        assert abs(time.time() - owner.since) < 100
        holder.kill()
        (told,) = waiter.result()
        assert f"process {holder.pid} (" in told
        assert time.strftime("since %Y-%m-%d ") in told
        held.close()


def _acquire_and_tell(lock: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert lock.acquire()
        lock.release()
    return [str(warning.message) for warning in told]


@every_lock
@isolated()
def test_a_warning_that_is_an_error_leaves_the_lock_free(cls: Any) -> None:
    with made(cls) as lock:
        die_with(lock.acquire)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(OwnerDiedWarning):
                lock.acquire()
            assert not lock.locked()
            assert in_child(lock.acquire, False)
            with pytest.raises(OwnerDiedWarning), lock:
                raise AssertionError("not reached")
            assert lock.acquire(False)
            lock.release()


@every_lock
@isolated()
def test_a_lock_that_raises_is_refused_until_it_is_recovered(cls: Any) -> None:
    with made(cls, on_owner_death="raise") as lock:
        pid = die_with(lock.acquire)
        for arguments in ((), (False,), (True, 0.1), (True, 0)):
            with pytest.raises(OwnerDiedError, match=rf"process {pid} .*recover\(\)"):
                lock.acquire(*arguments)
            with pytest.raises(OwnerDiedError):
                in_child(lock.acquire, *arguments)
        assert not lock.locked()
        assert lock.owner().alive is False
        assert in_child(lock.recover) is True
        assert lock.recover() is False
        assert lock.acquire(False)
        assert lock.recover() is False
        lock.release()
        assert lock.stats().owner_deaths == 1


@every_lock
@isolated()
def test_recovering_under_the_lock(cls: Any) -> None:
    with made(cls, on_owner_death="raise") as lock:
        die_with(lock.acquire)
        assert lock.recover(acquire=True) is True
        assert not in_child(lock.acquire, False)
        lock.release()
        die_with(lock.acquire)
        die_with(lock.recover, acquire=True)  # who repairs may die, too
        with pytest.raises(OwnerDiedError):
            lock.acquire()
        assert lock.recover() is True
        assert lock.acquire(False)
        lock.release()


@every_lock
@isolated()
def test_waiters_are_refused_when_the_holder_dies(cls: Any) -> None:
    with made(cls, on_owner_death="raise") as lock:
        held = Gate()

        def hold() -> None:
            lock.acquire()
            held.open()
            time.sleep(100)

        holder = Forked(hold)
        held.wait()
        waiters = [Forked(lock.acquire) for _ in range(3)]
        for waiter in waiters:
            wait_until_asleep(waiter.pid)
        holder.kill()
        for waiter in waiters:
            with pytest.raises(OwnerDiedError):
                waiter.result()
        held.close()


@every_lock
@isolated()
def test_what_a_death_means_is_the_locks_not_the_handles(cls: Any, name: str) -> None:
    lock = cls.create(name, on_owner_death="raise")
    with pytest.raises(LayoutError, match="on_owner_death"):
        cls.open(name, on_owner_death="warn")
    with pytest.raises(TypeError, match="on_owner_death"):
        cls.attach(name, on_owner_death="raise")
    other = cls.attach(name)
    die_with(other.acquire)
    with pytest.raises(OwnerDiedError):
        cls.open(name).acquire()
    lock.unlink()
    lock.close()
    other.close()


@plain_lock
@isolated()
def test_a_lent_lock_may_be_released_by_another(cls: Any) -> None:
    """A child acquires and exits, its parent releases."""
    with made(cls, robust=False) as lock:
        die_with(lock.acquire)
        assert lock.locked()
        assert lock.acquire(timeout=0.3) is False
        waiter = Forked(lock.acquire)
        wait_until_asleep(waiter.pid)
        lock.release()
        assert waiter.result() is True
        assert lock.locked()
        assert lock.recover() is True
        assert not lock.locked()


@plain_lock
@isolated()
def test_a_lent_lock_and_a_daemon(cls: Any) -> None:
    """Acquire, then become a daemon."""
    with made(cls, robust=False) as lock:
        done = Gate()

        def become_daemon() -> None:
            lock.acquire()
            if os.fork() == 0:
                os.setsid()
                assert lock.locked()
                lock.release()
                done.open()
                os._exit(0)

        die_with(become_daemon)
        done.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert lock.acquire(timeout=60)
        lock.release()
        done.close()


@every_lock
def test_bad_parameters_of_a_lock(cls: Any) -> None:
    with pytest.raises(ValueError, match="on_owner_death"):
        cls(on_owner_death="ignore")
    if cls is RLock:
        with pytest.raises(TypeError):
            cls(robust=False)
    else:
        with pytest.raises(ValueError, match="robust"):
            cls(robust=False, on_owner_death="raise")


@every_lock
def test_the_owner(cls: Any) -> None:
    with made(cls) as lock:
        assert lock.owner() is None
        with lock:
            owner = lock.owner()
            assert (owner.pid, owner.alive, owner.since) == (os.getpid(), True, None)
            assert owner.thread == threading.get_native_id()
            assert owner.command
        assert lock.owner() is None
        thread = in_thread(lambda: lock.acquire() and threading.get_native_id())()
        assert lock.owner().thread == thread


@every_lock
@isolated()
def test_the_owner_after_a_fork(cls: Any) -> None:
    with made(cls) as lock:
        lock.acquire()
        lock.release()

        def hold() -> tuple[int, int, int, int]:
            with lock:
                owner = lock.owner()
                return owner.pid, owner.thread, os.getpid(), threading.get_native_id()

        pid, thread, real_pid, real_thread = in_child(hold)
        assert (pid, thread) == (real_pid, real_thread)


@every_lock
@isolated()
def test_stats(cls: Any) -> None:
    with made(cls, spin=0) as lock:
        for _ in range(10):
            with lock:
                assert not in_child(lock.acquire, False)
        stats = lock.stats()
        assert (stats.acquisitions, stats.contended, stats.parks) == (10, 0, 0)
        assert (stats.owner_deaths, stats.longest_wait) == (0, 0.0)
        lock.acquire()
        waiter = Forked(_acquire_and_tell, lock)
        wait_until_asleep(waiter.pid)
        lock.release()
        waiter.result()
        stats = lock.stats()
        assert (stats.acquisitions, stats.contended) == (12, 1)
        assert stats.parks >= 1
        assert 0.01 < stats.longest_wait < 1000


def test_stats_of_an_rlock_count_the_first_level() -> None:
    with made(RLock) as lock:
        with lock, lock, lock:
            pass
        assert lock.stats().acquisitions == 1
