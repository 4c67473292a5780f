"""The same body against multiprocessing's classes and ours: who knows those can use these."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from isolation import isolated

import shmipc

context = multiprocessing.get_context("fork")
THEIRS: dict[str, Any] = {
    "Queue": context.Queue,
    "JoinableQueue": context.JoinableQueue,
    "SimpleQueue": context.SimpleQueue,
    "Lock": context.Lock,
    "RLock": context.RLock,
}
each_library = pytest.mark.parametrize("library", ["multiprocessing", "shmipc"])
each_queue = pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
LARGE = b"x" * 10_000_000  # far more than a pipe or a ring holds


def make(library: str, kind: str, *arguments: Any) -> Any:
    if library == "multiprocessing":
        return THEIRS[kind](*arguments)
    return getattr(shmipc, kind)(*arguments)


def finish(channel: Any) -> None:
    """Closes so that nothing of it is left in this process."""
    channel.close()
    if hasattr(channel, "join_thread"):
        channel.join_thread()
    for end in ("_reader", "_writer"):  # multiprocessing closes these when collected
        if hasattr(channel, end):
            getattr(channel, end).close()


def run(function: Callable[..., Any], *arguments: Any) -> int:
    """The exit status of a started process."""
    process = context.Process(target=function, args=arguments)
    process.start()
    process.join()
    status = process.exitcode
    process.close()
    return status if status is not None else -1


@each_library
@each_queue
@isolated()
def test_a_child_takes_in_order_what_its_parent_put(library: str, kind: str) -> None:
    channel = make(library, kind)
    things = [1, "two", b"three", None, [4.0], {"five": (6,)}]
    for thing in things:
        channel.put(thing)
    assert run(expect, channel, things) == 0
    finish(channel)


def expect(channel: Any, things: list[Any]) -> None:
    assert [channel.get() for _ in things] == things


@each_library
@each_queue
@isolated()
def test_fill_first_and_start_the_workers_later(library: str, kind: str) -> None:
    """A put without maxsize never blocks, and children get what waited in the parent."""
    channel = make(library, kind)
    payload = b"y" * 1000
    for number in range(10_000):
        channel.put((number, payload))
    workers = [context.Process(target=take_until_none, args=(channel,)) for _ in range(2)]
    for worker in workers:
        worker.start()
        channel.put(None)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
        worker.close()
    finish(channel)


def take_until_none(channel: Any) -> None:
    last = -1
    while (thing := channel.get()) is not None:
        assert thing[0] > last
        last = thing[0]


@each_library
@each_queue
@isolated()
def test_a_fork_child_starts_with_nothing_waiting(library: str, kind: str) -> None:
    """What waits in the parent is sent by the parent, once, not by its fork children too."""
    channel = make(library, kind)
    payload = b"z" * 100_000
    for number in range(200):
        channel.put((number, payload))
    assert run(channel.put, "child's") == 0 if library == "shmipc" else True
    got = [channel.get(timeout=60) for _ in range(200 + (library == "shmipc"))]
    assert [thing[0] for thing in got if thing != "child's"] == list(range(200))
    with pytest.raises(queue.Empty):
        channel.get(timeout=0.2)
    finish(channel)


@each_library
@each_queue
@isolated()
def test_maxsize_full_and_empty(library: str, kind: str) -> None:
    channel = make(library, kind, 2)
    assert channel.empty()
    channel.put(1)
    assert not channel.full()
    channel.put(2, False)
    assert channel.full()
    assert channel.qsize() == 2
    for put in (channel.put_nowait, lambda thing: channel.put(thing, timeout=0.01)):
        with pytest.raises(queue.Full):
            put(3)
    with pytest.raises(queue.Full):
        channel.put(3, True, -1)
    assert channel.get(timeout=60) == 1
    assert channel.get(True, 60) == 2
    assert channel.qsize() == 0
    for get in (channel.get_nowait, lambda: channel.get(False), lambda: channel.get(True, 0.01)):
        with pytest.raises(queue.Empty):
            get()
    with pytest.raises(queue.Empty):
        channel.get(timeout=-1)
    finish(channel)


@each_library
@each_queue
@pytest.mark.parametrize("maxsize", [0, -1])
@isolated()
def test_no_maxsize_is_no_bound(library: str, kind: str, maxsize: int) -> None:
    channel = make(library, kind, maxsize)
    for number in range(1000):
        channel.put_nowait(number)
    assert not channel.full()
    assert [channel.get(timeout=60) for _ in range(1000)] == list(range(1000))
    finish(channel)


@each_library
@each_queue
@isolated()
def test_a_put_blocks_at_maxsize_until_a_child_gets(library: str, kind: str) -> None:
    channel = make(library, kind, 1)
    channel.put(0)
    worker = context.Process(target=expect, args=(channel, list(range(50))))
    worker.start()
    for number in range(1, 50):
        channel.put(number, timeout=60)
    worker.join()
    assert worker.exitcode == 0
    worker.close()
    finish(channel)


@each_library
@each_queue
@isolated()
def test_put_and_get_after_close_are_value_errors(library: str, kind: str) -> None:
    channel = make(library, kind)
    channel.close()
    for use in (lambda: channel.put(1), channel.get):
        with pytest.raises((ValueError, shmipc.ClosedError)):
            use()
    finish(channel)


@each_library
@isolated()
def test_join_thread_before_close_is_an_assertion_error(library: str) -> None:
    channel = make(library, "Queue")
    channel.put(1)
    with pytest.raises(AssertionError):
        channel.join_thread()
    assert channel.get() == 1
    finish(channel)


@each_library
@each_queue
@isolated()
def test_a_child_does_not_end_before_everything_is_passed_on(library: str, kind: str) -> None:
    channel = make(library, kind)
    worker = context.Process(target=put_much, args=(channel,))
    worker.start()
    got = [channel.get() for _ in range(300)]
    worker.join()
    assert worker.exitcode == 0
    assert [message[0] for message in got] == list(range(300))
    worker.close()
    finish(channel)


def put_much(channel: Any) -> None:
    for number in range(300):
        channel.put((number, b"w" * 50_000))


@each_library
@isolated()
def test_join_thread_waits_until_everything_is_passed_on(library: str) -> None:
    channel = make(library, "Queue")
    worker = context.Process(target=put_close_join_leave, args=(channel,))
    worker.start()
    got = [channel.get() for _ in range(300)]
    worker.join()
    assert [message[0] for message in got] == list(range(300))
    worker.close()
    finish(channel)


def put_close_join_leave(channel: Any) -> None:
    put_much(channel)
    channel.close()
    channel.join_thread()
    os._exit(0)  # nothing else may be needed


@each_library
@isolated()
def test_cancel_join_thread_lets_a_child_end_at_once(library: str) -> None:
    channel = make(library, "Queue")
    assert run(put_and_cancel, channel) == 0  # nobody takes what it put
    finish(channel)


def put_and_cancel(channel: Any) -> None:
    put_much(channel)
    channel.cancel_join_thread()


@each_library
@isolated()
def test_join_waits_for_the_tasks_of_children(library: str) -> None:
    channel = make(library, "JoinableQueue")
    for number in range(40):
        channel.put(number)
    workers = [context.Process(target=work, args=(channel,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    channel.join()
    for _ in workers:
        channel.put(None)
    channel.join()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
        worker.close()
    with pytest.raises(ValueError):
        channel.task_done()
    finish(channel)


def work(channel: Any) -> None:
    while True:
        thing = channel.get()
        channel.task_done()
        if thing is None:
            return


@each_library
@isolated()
def test_join_of_a_queue_without_tasks_returns(library: str) -> None:
    channel = make(library, "JoinableQueue")
    channel.join()
    finish(channel)


@each_library
@isolated()
def test_simple_queue(library: str) -> None:
    channel = make(library, "SimpleQueue")
    assert channel.empty()
    channel.put({"a": 1})
    assert not channel.empty()
    assert channel.get() == {"a": 1}
    assert run(channel.put, "from a child") == 0
    assert channel.get() == "from a child"
    finish(channel)


@each_library
@each_queue
@isolated()
def test_threads_share_a_queue(library: str, kind: str) -> None:
    channel = make(library, kind)
    got: list[int] = []
    takers = [
        threading.Thread(target=lambda: got.extend(channel.get() for _ in range(250)))
        for _ in range(2)
    ]
    makers = [
        threading.Thread(target=lambda n=n: [channel.put(n * 1000 + i) for i in range(125)])
        for n in range(4)
    ]
    for thread in takers + makers:
        thread.start()
    for thread in takers + makers:
        thread.join()
    assert sorted(got) == sorted(n * 1000 + i for n in range(4) for i in range(125))
    finish(channel)


@each_library
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
@isolated()
def test_locks_acquire_release_and_time_out_alike(library: str, kind: str) -> None:
    lock = make(library, kind)
    assert lock.acquire() is True
    for arguments in ((False,), (True, 0.01), (True, 0), (True, -1)):
        assert run(cannot_acquire, lock, arguments) == 0
    assert lock.release() is None
    with lock as entered:
        assert entered is True
        assert run(cannot_acquire, lock, (False,)) == 0
    assert lock.acquire(block=True, timeout=None) is True
    lock.release()


def cannot_acquire(lock: Any, arguments: tuple[Any, ...]) -> None:
    assert lock.acquire(*arguments) is False


@each_library
@isolated()
def test_a_lock_released_too_often_is_a_value_error(library: str) -> None:
    lock = make(library, "Lock")
    with pytest.raises(ValueError):
        lock.release()
    lock.acquire()
    assert run(lock.release) == 0  # anyone may
    with pytest.raises(ValueError):
        lock.release()


@each_library
@isolated()
def test_an_rlock_released_by_another_is_an_assertion_error(library: str) -> None:
    lock = make(library, "RLock")
    with pytest.raises(AssertionError):
        lock.release()
    lock.acquire()
    lock.acquire()
    assert run(must_not_release, lock) == 0
    lock.release()
    assert run(cannot_acquire, lock, (False,)) == 0
    lock.release()
    with pytest.raises(AssertionError):
        lock.release()


def must_not_release(lock: Any) -> None:
    with pytest.raises(AssertionError):
        lock.release()


@each_library
@isolated()
def test_a_worker_that_only_gets_ends_by_terminate(library: str) -> None:
    channel = make(library, "Queue")
    worker = context.Process(target=channel.get)
    worker.start()
    time.sleep(0.05)
    worker.terminate()
    worker.join()
    assert worker.exitcode == -15
    worker.close()
    finish(channel)
