"""Forks in the middle of things: with locks held, threads at work, messages on the way."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from helpers import (
    LOCK_CLASSES,
    LOCKS,
    Forked,
    Gate,
    flush,
    in_child,
    made,
    touch,
)
from isolation import isolated

from shmipc import Queue, Ring, Segment


@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated()
def test_fork_while_another_thread_holds_the_lock(cls: Any) -> None:
    """The parent's thread holds it, not the child; the child gets it when that thread lets go."""
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            leave.wait()

    def wait_in_child() -> bool:
        assert not lock.acquire(block=False)
        tried.open()
        assert lock.acquire()
        lock.release()
        return True

    with made(cls) as lock:
        tried = Gate()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        child = Forked(wait_in_child)
        tried.wait()
        leave.set()
        assert child.result()
        holder.join()
        assert not lock.locked()
        tried.close()


@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated()
def test_a_child_that_ends_does_not_release_its_parents_lock(cls: Any) -> None:
    with made(cls) as lock, lock:
        in_child(lambda: None)
        assert in_child(lock.acquire, False) is False
        assert lock.locked()


@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated(limit=120)
def test_forks_while_threads_lock_and_unlock(cls: Any) -> None:
    """Whatever moment of acquire or release a fork hits, neither side is stuck."""
    stop = threading.Event()

    def toggle() -> None:
        while not stop.is_set():
            with lock:
                pass

    def use() -> None:
        for _ in range(20):
            with lock:
                pass

    with made(cls) as lock:
        threads = [threading.Thread(target=toggle) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            in_child(use)
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("cls", [Ring, Queue])
@pytest.mark.parametrize("lock", LOCKS)
@isolated(limit=120)
def test_forks_while_threads_put_and_get(cls: Any, lock: str) -> None:
    children = 60

    def put_all() -> None:
        for number in range(20_000):
            channel.put(b"parent%d" % number)

    def put_one(number: int) -> None:
        channel.put(b"child%d" % number)
        flush(channel)

    def take_all() -> None:
        got.extend(channel)

    got: list[bytes] = []
    with made(cls, lock=lock) as channel:
        putter, taker = threading.Thread(target=put_all), threading.Thread(target=take_all)
        putter.start()
        taker.start()
        for number in range(children):
            in_child(put_one, number)
        putter.join()
        channel.shutdown()
        taker.join()
    assert sorted(m for m in got if m[:1] == b"c") == sorted(
        b"child%d" % n for n in range(children)
    )
    assert [m for m in got if m[:1] == b"p"] == [b"parent%d" % n for n in range(20_000)]


@isolated()
def test_a_fork_child_may_close_its_copy() -> None:
    with made(Segment) as segment, made(Ring) as ring, made(Queue) as queue:

        def close_all() -> None:
            for thing in (segment, ring, queue):
                thing.close()

        in_child(close_all)
        segment.buf[0] = 1
        ring.put(b"1")
        queue.put(1)
        assert (segment.buf[0], ring.get(), queue.get()) == (1, b"1", 1)


@isolated()
def test_views_in_a_fork_child_outlive_its_parents_close() -> None:
    closed = Gate()

    def read_later() -> bytes:
        closed.wait()
        return bytes(segment.buf[:4])

    with made(Segment) as segment:
        segment.buf[:4] = b"kept"
        child = Forked(read_later)
    closed.open()
    assert child.result() == b"kept"
    closed.close()


@pytest.mark.parametrize("lock", LOCKS)
@isolated()
def test_grandchildren_talk_to_each_other(lock: str) -> None:
    def spread(depth: int) -> None:
        ring.put(b"%d" % depth)
        if depth < 5:
            in_child(spread, depth + 1)

    with made(Ring, lock=lock) as ring:
        in_child(spread, 0)
        assert ring.drain() == [b"0", b"1", b"2", b"3", b"4", b"5"]


@isolated()
def test_an_exec_lets_go() -> None:
    """A process that becomes another program uses the object no longer."""
    with made(Ring, producers="one") as ring:
        ready = Gate()

        def become_another() -> None:
            ring.put(b"1")
            ready.open()
            os.execlp("sleep", "sleep", "600")

        child = Forked(become_another)
        ready.wait()
        while any(who.alive and who.pid == child.pid for who in ring.participants()):
            pass
        ring.put(b"2")
        child.kill()
        assert ring.drain() == [b"1", b"2"]
        ready.close()


@isolated()
def test_objects_made_in_a_child_do_not_meet_the_parents() -> None:
    """Small objects may share memory; a child's new ones never are the parent's."""
    with made(LOCK_CLASSES[0]) as before:

        def make_and_hold() -> bool:
            with made(LOCK_CLASSES[0]) as mine:
                mine.acquire()
                return bool(before.locked())

        touch(before)
        assert in_child(make_and_hold) is False
        children = [Forked(make_and_hold) for _ in range(4)]
        with made(LOCK_CLASSES[0]) as after:
            assert [child.result() for child in children] == [False] * 4
            assert not after.locked()
