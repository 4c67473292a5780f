"""A parent killed while its fork children live: the children go on, and the parent is dead for
them though they have all that it had open."""

from __future__ import annotations

import ctypes
import itertools
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from helpers import KILLS, LOCK_CLASSES, LOCKS, Forked, Gate, flush, made, pack, unpack
from isolation import isolated

from shmipc import OwnerDiedWarning, Queue, Ring

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of its descendants whose parent dies, so that it can wait."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def wait_for_orphans() -> None:
    while True:
        try:
            _, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        assert status == 0, f"an orphan ended with status {status}"


def parent_of(works: list[Callable[[], Any]], thing: Any, ready: Gate) -> None:
    """Forks children that do `works` and close `thing`, and stays."""
    for work in works:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work()
                thing.close()
                status = 0
            finally:
                os._exit(status)
    ready.open()
    while True:
        time.sleep(60)


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("cls", [Ring, Queue])
@isolated(limit=120)
def test_the_children_go_on_talking(cls: Any, lock: str, kills: int) -> None:
    """The killed parent has made the object, so nobody else knows it."""
    adopt_orphans()
    for _ in range(kills):
        ready, killed, done = Gate(), Gate(), Gate()

        def family(ready: Gate = ready, killed: Gate = killed, done: Gate = done) -> None:
            with made(cls, lock=lock) as channel:
                channel.put(pack(0, 0, 100))

                def produce() -> None:
                    for number in range(1, 100):
                        channel.put(pack(0, number, number * 20))
                    killed.wait()
                    for number in range(100, 300):
                        channel.put(pack(0, number, number * 20))
                    flush(channel)

                def consume() -> None:
                    for number in range(300):
                        assert unpack(channel.get()) == (0, number)
                    done.open()

                parent_of([produce, consume], channel, ready)

        parent = Forked(family)
        ready.wait()
        parent.kill()
        killed.open()
        done.wait()
        wait_for_orphans()
        for gate in (ready, killed, done):
            gate.close()


@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated()
def test_a_child_inherits_the_lock_that_its_dead_parent_held(cls: Any) -> None:
    """The child has every descriptor of its parent; that must not make the parent look alive."""
    adopt_orphans()
    ready, done = Gate(), Gate()

    def family() -> None:
        with made(cls) as lock:
            lock.acquire()

            def wait_for_lock() -> None:
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    assert lock.acquire()
                assert [warning.category for warning in told] == [OwnerDiedWarning]
                lock.release()
                done.open()

            parent_of([wait_for_lock], lock, ready)

    parent = Forked(family)
    ready.wait()
    parent.kill()
    done.wait()
    wait_for_orphans()
    ready.close()
    done.close()


@pytest.mark.parametrize("lock", LOCKS)
@isolated()
def test_a_child_takes_the_sides_that_its_dead_parent_had(lock: str) -> None:
    adopt_orphans()
    ready, killed, done = Gate(), Gate(), Gate()

    def family() -> None:
        with made(Ring, lock=lock, producers="one", consumers="one") as ring:
            ring.put_many([b"1", b"2"])
            assert ring.get() == b"1"

            def take_over() -> None:
                killed.wait()
                ring.put(b"3")
                assert ring.drain() == [b"2", b"3"]
                done.open()

            parent_of([take_over], ring, ready)

    parent = Forked(family)
    ready.wait()
    parent.kill()
    killed.open()
    done.wait()
    wait_for_orphans()
    for gate in (ready, killed, done):
        gate.close()


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated(limit=120)
def test_families_under_one_lock(cls: Any, kills: int) -> None:
    """Parents are killed that lock and fork all the time; this process always gets the lock."""
    adopt_orphans()
    with made(cls) as lock:

        def family(ready: Gate) -> None:
            ready.open()
            for _ in itertools.count():
                lock.acquire()
                if os.fork() == 0:
                    time.sleep(0.01)
                    os._exit(0)
                lock.release()
                try:
                    os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    continue

        for number in range(kills):
            ready = Gate()
            parent = Forked(family, ready)
            ready.wait()
            time.sleep(number % 10 / 500)
            parent.kill()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OwnerDiedWarning)
                assert lock.acquire()
            lock.release()
            wait_for_orphans()
            ready.close()
