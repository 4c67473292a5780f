"""Ctrl-C works in every wait, and leaves no stuck lock and no lost message."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from helpers import LOCKS, Forked, Gate, in_thread, made, unique_name, wait_until_asleep
from isolation import isolated

from shmipc import (
    AtomicInt64,
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Full,
    JoinableQueue,
    Lock,
    Queue,
    Ring,
    RLock,
    RWLock,
    Semaphore,
    SemaphoreLock,
    SimpleQueue,
)


class Wait:
    """An object in a state where `enter` waits for ever, and a check that it still works."""

    def __init__(self, cls: Any, **options: Any) -> None:
        self.made = made(cls, **options)
        self.thing = self.made.__enter__()

    def prepare(self) -> None:
        """Makes the state, in the process that does not wait."""

    def enter(self) -> None:
        raise NotImplementedError

    def works_on(self) -> None:
        raise NotImplementedError


class FullChannel(Wait):
    def prepare(self) -> None:
        self.count = 0
        while self._put_if_there_is_room():
            self.count += 1

    def _put_if_there_is_room(self) -> bool:
        try:
            self.thing.put(b"m" * 1000, block=False)
        except Full:
            return False
        return True

    def enter(self) -> None:
        self.thing.put(b"m" * 1000)

    def works_on(self) -> None:
        assert [self.thing.get(timeout=60) for _ in range(self.count)] == [b"m" * 1000] * self.count
        self.thing.put(b"after")
        assert self.thing.get(timeout=60) == b"after"


class EmptyChannel(Wait):
    def enter(self) -> None:
        self.thing.get()

    def works_on(self) -> None:
        self.thing.put(b"after")
        assert self.thing.get() == b"after"


class EmptyChannelMany(EmptyChannel):
    def enter(self) -> None:
        self.thing.get_many(10, min=3)


class HeldLock(Wait):
    def prepare(self) -> None:
        self.thing.acquire()

    def enter(self) -> None:
        self.thing.acquire()

    def works_on(self) -> None:
        self.thing.release()
        assert self.thing.acquire(timeout=60)
        self.thing.release()


class NoUnits(Wait):
    def prepare(self) -> None:
        self.thing.acquire()

    def enter(self) -> None:
        self.thing.acquire()

    def works_on(self) -> None:
        self.thing.release()
        assert self.thing.acquire(timeout=60)


class Unset(Wait):
    def enter(self) -> None:
        self.thing.wait()

    def works_on(self) -> None:
        self.thing.set()
        assert self.thing.wait(60)


class Unnotified(Wait):
    def enter(self) -> None:
        with self.thing:
            self.thing.wait()

    def works_on(self) -> None:
        assert self.thing.acquire(timeout=60)
        self.thing.notify()
        assert not self.thing.wait(0)
        self.thing.release()


class Alone(Wait):
    def enter(self) -> None:
        self.thing.wait()

    def works_on(self) -> None:
        self.thing.reset()
        other = in_thread(self.thing.wait)
        assert {self.thing.wait(60), other()} == {0, 1}


class Written(Wait):
    def prepare(self) -> None:
        self.thing.acquire_write_lock()

    def enter(self) -> None:
        self.thing.acquire_read_lock()

    def works_on(self) -> None:
        self.thing.release_write_lock()
        assert self.thing.acquire_write_lock(timeout=60)


class WrittenToWrite(Written):
    def enter(self) -> None:
        self.thing.acquire_write_lock()


class Read(Wait):
    def prepare(self) -> None:
        self.thing.acquire_read_lock()

    def enter(self) -> None:
        self.thing.acquire_write_lock()

    def works_on(self) -> None:
        assert self.thing.acquire_read_lock(timeout=60)


class Unchanged(Wait):
    def enter(self) -> None:
        self.thing.wait(0)

    def works_on(self) -> None:
        assert self.thing.add() == 1
        assert self.thing.wait(0) == 1


class OpenTasks(Wait):
    def prepare(self) -> None:
        self.thing.put(1)

    def enter(self) -> None:
        self.thing.join()

    def works_on(self) -> None:
        self.thing.get()
        self.thing.task_done()
        self.thing.join()


class Iteration(EmptyChannel):
    def enter(self) -> None:
        for _ in self.thing:
            pass


class UndeliveredItems(Wait):
    def enter(self) -> None:
        for _ in range(500):
            self.thing.put(b"m" * 1000)
        self.thing.close()
        self.thing.join_thread()

    def works_on(self) -> None:
        self.thing.put(b"m" * 1000)  # the ring may be full: then it waits here for the get
        assert self.thing.get(timeout=60) == b"m" * 1000
        self.thing.close()
        self.thing.join_thread()  # the thread has a handle of its own, which goes with it


class Missing(Wait):
    """Attaching to a name that does not appear."""

    def enter(self) -> None:
        Lock.attach(unique_name(), timeout=600)

    def works_on(self) -> None:
        assert self.thing.acquire()
        self.thing.release()


WAITS: dict[str, Callable[[], Wait]] = {
    **{f"Ring.put {lock}": partial(FullChannel, Ring, lock=lock) for lock in LOCKS},
    **{f"Ring.get {lock}": partial(EmptyChannel, Ring, lock=lock) for lock in LOCKS},
    "Ring.get, one to one": lambda: EmptyChannel(Ring, producers="one", consumers="one"),
    "Ring.get_many": lambda: EmptyChannelMany(Ring),
    "Ring iteration": lambda: Iteration(Ring),
    "Queue.put": lambda: FullChannel(Queue, maxsize=3),
    "Queue.get": lambda: EmptyChannel(Queue),
    "Queue.get semaphore": lambda: EmptyChannel(Queue, lock="semaphore"),
    "SimpleQueue.get": lambda: EmptyChannel(SimpleQueue),
    "Queue.join_thread": lambda: UndeliveredItems(Queue),
    "JoinableQueue.join": lambda: OpenTasks(JoinableQueue),
    "Lock.acquire": lambda: HeldLock(Lock),
    "RLock.acquire": lambda: HeldLock(RLock),
    "SemaphoreLock.acquire": lambda: HeldLock(SemaphoreLock),
    "Semaphore.acquire": lambda: NoUnits(Semaphore),
    "BoundedSemaphore.acquire": lambda: NoUnits(BoundedSemaphore),
    "Event.wait": lambda: Unset(Event),
    "Condition.wait": lambda: Unnotified(Condition),
    "Barrier.wait": lambda: Alone(Barrier),
    "RWLock to read, written": lambda: Written(RWLock),
    "RWLock to write, written": lambda: WrittenToWrite(RWLock),
    "RWLock to write, read": lambda: Read(RWLock),
    "AtomicInt64.wait": lambda: Unchanged(AtomicInt64),
    "attach": lambda: Missing(Lock),
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "at once"])
@isolated()
def test_ctrl_c_ends_a_wait(wait: str, asleep: bool) -> None:
    case = WAITS[wait]()
    case.prepare()
    ready = Gate()

    def wait_for_ever() -> str:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            ready.open()
            case.enter()
        except KeyboardInterrupt:
            return "interrupted"
        return "came back"

    child = Forked(wait_for_ever)
    ready.wait()
    if asleep:
        wait_until_asleep(child.pid)
    child.send(signal.SIGINT)
    assert child.result() == "interrupted"
    case.works_on()
    case.made.__exit__(None, None, None)
    ready.close()


@pytest.mark.parametrize("wait", WAITS)
@isolated()
def test_a_handler_that_returns_lets_the_wait_go_on(wait: str) -> None:
    """PEP 475: a signal whose handler does not raise ends no wait."""
    case = WAITS[wait]()
    case.prepare()
    ready, handled = Gate(), Gate()

    def wait_for_ever() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: handled.open())
        ready.open()
        case.enter()

    child = Forked(wait_for_ever)
    ready.wait()
    for _ in range(3):
        wait_until_asleep(child.pid)
        child.send(signal.SIGUSR1)
        handled.wait()
    wait_until_asleep(child.pid)
    child.kill()
    case.works_on()
    case.made.__exit__(None, None, None)
    ready.close()
    handled.close()


@isolated()
def test_a_waiting_thread_does_not_keep_the_main_thread_from_ctrl_c() -> None:
    with made(Ring) as ring:
        ready = Gate()

        def wait_in_a_thread() -> str:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threading.Thread(target=ring.get, daemon=True).start()
            try:
                ready.open()
                while True:
                    time.sleep(60)
            except KeyboardInterrupt:
                return "interrupted"

        child = Forked(wait_in_a_thread)
        ready.wait()
        wait_until_asleep(child.pid)
        child.send(signal.SIGINT)
        assert child.result() == "interrupted"
        ready.close()


@isolated()
def test_many_interrupts_at_random_moments_lose_at_most_what_a_get_had_in_hand() -> None:
    messages = 5000
    with made(Ring) as ring:
        ready, handled = Gate(), Gate()

        def take() -> list[int]:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            got = [-1]

            def go_on() -> None:  # a call: CPython 3.13 may interrupt a loop outside of its try
                ready.open()
                while got[-1] != messages - 1:
                    got.append(int.from_bytes(ring.get(), "little"))

            while got[-1] != messages - 1:
                try:
                    go_on()
                except KeyboardInterrupt:
                    handled.open()  # the next one comes after this
            return got[1:]

        child = Forked(take)
        ready.wait()
        interrupts = 0
        for number in range(messages):
            ring.put(number.to_bytes(2, "little"))
            if number % 50 == 0 and number < messages - 50:
                child.send(signal.SIGINT)
                interrupts += 1
                handled.wait()
                ready.wait()
        got = child.result()
        assert got == sorted(set(got))
        assert messages - len(got) <= interrupts
        ready.close()
        handled.close()
