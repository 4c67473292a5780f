"""Queues of objects, as multiprocessing's, over a ring in shared memory.

What fits goes straight into the ring, without a thread.  What does not fit there, but is allowed by
``maxsize``, waits in the process that put it, in order, and a feeder thread passes it on; it dies
with that process.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.codec import Dumps, Loads, find_codec
from shmipc.errors import BusyError, Full, ShmipcError
from shmipc.membership import Plan, run_at_exit
from shmipc.ring import (
    DEFAULT_CAPACITY,
    RingParameters,
    SharedRing,
    Side,
    Sleep,
    plan_ring,
    read_ring,
)
from shmipc.segment import check_spin

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

T = TypeVar("T")

MOMENT = 0.002
"""Seconds that a put on a full ring gives consumers to make room before its message waits."""

CodecChoice = str | tuple[Dumps, Loads]


class _Line:
    """Messages that wait in this process, in order, and the thread that passes them on.

    Whoever puts behind them helps, so that the thread matters only when nobody puts any more.  It
    has a handle of its own: closing the queue does not concern it.
    """

    def __init__(self, queue: _BaseQueue[Any]) -> None:
        self.cancelled = False
        self.handle: _BaseQueue[Any] | None = None  # the thread's, while it runs
        self._queue = weakref.ref(queue)
        self._messages: deque[tuple[int, bytes]] = deque()
        self._changed = threading.Condition()

    def add(self, tag: int, data: bytes, queue: _BaseQueue[Any]) -> None:
        """At the end; the message has been counted as waiting, and is not if this fails."""
        message = (tag, data)
        with self._changed:
            try:
                self._messages.append(message)
                queue.waiting = True
                if not self._pass_on(queue) and self.handle is None:
                    self._start(queue)
            except BaseException:
                if self._messages and self._messages[-1] is message:
                    self._messages.pop()
                    queue._unwait(1)
                queue.waiting = bool(self._messages)
                raise

    def _pass_on(self, handle: _BaseQueue[Any]) -> bool:
        """As many as have room; True if nothing is left.  Called with ``_changed`` held."""
        handle._flush(self._messages)
        queue = self._queue()
        if queue is not None:
            queue.waiting = bool(self._messages)
        return not self._messages

    def _start(self, queue: _BaseQueue[Any]) -> None:
        self.handle = queue._duplicate()
        _running.add(self)
        _flush_at_exit()
        try:
            threading.Thread(target=self._feed, name="shmipc-feeder", daemon=True).start()
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        """Called with ``_changed`` held; who joins may end the process right after."""
        if self.handle is not None:
            self.handle.close()
        self.handle = None
        _running.discard(self)
        self._changed.notify_all()

    def _feed(self) -> None:
        """The thread: until nothing waits, or what waits can reach nobody."""
        try:
            while self._feed_once():
                pass
        except (ShmipcError, OSError):  # shut down at once, broken, or cut off
            self._give_up()

    def _feed_once(self) -> bool:
        """False when nothing waits any more, and this thread has stopped: in the same step, so
        that what is added next starts another."""
        handle = self.handle
        assert handle is not None
        try:
            with self._changed:
                if self._pass_on(handle):
                    self._stop()
                    return False
                size = len(self._messages[0][1])
            handle._wait_for_room(size, math.inf, True)
        except BusyError:  # another process has become the one producer meanwhile
            time.sleep(0.01)
        return True

    def _give_up(self) -> None:
        with self._changed:
            if self.handle is not None:
                self.handle._unwait(len(self._messages))
            self._messages.clear()
            queue = self._queue()
            if queue is not None:
                queue.waiting = False
            self._stop()

    def join(self) -> None:
        """Until nothing waits."""
        with self._changed:
            while self.handle is not None:
                self._changed.wait()


_queues: weakref.WeakSet[_BaseQueue[Any]] = weakref.WeakSet()
_running: set[_Line] = set()
_exit_hooked_in = 0


def _flush_at_exit() -> None:
    global _exit_hooked_in
    if _exit_hooked_in != os.getpid():
        _exit_hooked_in = os.getpid()
        run_at_exit(_flush_all, -5)


def _flush_all() -> None:
    for line in list(_running):
        if not line.cancelled:
            line.join()


def _start_empty() -> None:
    """In a child of fork: what waits is the parent's, and so are the threads."""
    handles = [line.handle for line in _running]
    _running.clear()
    for queue in list(_queues):
        queue._reset_line()
    for handle in handles:
        if handle is not None:
            handle.close()


os.register_at_fork(after_in_child=_start_empty)


@dataclass(frozen=True)
class _QueueParameters:
    """A queue's parameters, in the order of its constructor's."""

    maxsize: int = 0
    capacity: int = DEFAULT_CAPACITY
    codec: CodecChoice = "pickle"
    producers: Side = "many"
    consumers: Side = "many"
    lock: Sleep = "futex"
    spin: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.maxsize, bool) or not isinstance(self.maxsize, int):
            raise TypeError(f"maxsize: expected an int, found {type(self.maxsize).__name__}")
        object.__setattr__(self, "maxsize", max(self.maxsize, 0))  # as multiprocessing's
        object.__setattr__(self, "capacity", self.ring.capacity)
        find_codec(self.codec)

    @property
    def ring(self) -> RingParameters:
        """Those of the ring below, checked."""
        return RingParameters(self.capacity, self.producers, self.consumers, self.lock, self.spin)


class _BaseQueue(binding.QueueCore[T], SharedRing, Generic[T]):
    """What the three queues share."""

    _local = ("spin", "codec")
    _Parameters = _QueueParameters
    _flags = 0
    _codec: CodecChoice = "pickle"

    @classmethod
    def _plan(cls, parameters: _QueueParameters) -> Plan:
        return plan_ring(
            cls._kinds[0],
            parameters.ring,
            max_items=parameters.maxsize,
            flags=cls._flags,
            codec=find_codec(parameters.codec).name,
        )

    @classmethod
    def _facts(cls, parameters: _QueueParameters) -> dict[str, Any]:
        return {**super()._facts(parameters), "codec": find_codec(parameters.codec).name}

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        self._spin = local.get("spin")
        self._codec = local.get("codec", "pickle")
        self._maxsize = read_ring(attachment)["maxsize"]
        _, self._dumps, self._loads = find_codec(self._codec)
        self._bind(attachment, check_spin(self._spin))
        self._reset_line()
        _queues.add(self)

    def _reset_line(self) -> None:
        self._line = _Line(self)
        self.waiting = False
        self._stalled_at = -1

    def _travelling(self) -> dict[str, Any]:
        return {"spin": self._spin, "codec": self._codec}

    def _put_slowly(self, tag: int, data: bytes, block: bool, seconds: float) -> None:
        """Everything but the usual case: the ring is full, or something waits already."""
        self._check_length(len(data))
        deadline = time.monotonic() + seconds
        if not self.waiting:
            if self._offer(tag, data, block, seconds, False):
                return
            left = max(deadline - time.monotonic(), 0.0)
            if self._give_time(len(data)) and self._offer(tag, data, block, left, False):
                return
        else:
            self._give_time(len(data))
        self._await(block, max(deadline - time.monotonic(), 0.0))
        self._line.add(tag, data, self)

    def _give_time(self, length: int) -> bool:
        """Lets consumers that are at work make room, for a moment: a producer that is faster than
        they are then goes at their pace, instead of filling its memory.  Where nobody has taken
        anything since the last time in vain, there is nothing to wait for."""
        _, before, _ = self._counts()
        if before == self._stalled_at:
            return False
        self._wait_for_room(length, MOMENT, False)
        _, after, _ = self._counts()
        if after == before:
            self._stalled_at = before
        return after != before

    def _duplicate(self) -> Self:
        """Another handle of this process on the same queue."""
        return self._over(self._open_membership().another(), **self._travelling())

    def empty(self) -> bool:
        """Whether nothing has been put that was not taken; it may have changed since."""
        return len(self) == 0

    def get_nowait(self) -> T:
        """As ``get(block=False)``."""
        return self.get(False)

    def put_nowait(self, obj: T) -> None:
        """As ``put(obj, block=False)``."""
        self.put(obj, False)


class Queue(_BaseQueue[T]):
    """A queue of objects between processes, as `multiprocessing.Queue`.

    With ``maxsize=n`` a ``put`` blocks while n items are in the queue; with ``maxsize=0`` it never
    blocks.  What has no room in the ring (``capacity`` bytes) waits in this process and is passed
    on by a thread; what waits when the process dies is lost, and what is in the ring is not.
    ``codec`` is how objects become bytes: "pickle", or a pair ``(dumps, loads)`` of functions;
    ``bytes`` go as they are.  The other parameters are `Ring`'s.

    Objects are encoded by ``put``: a later change is not sent, and what cannot be pickled is an
    error there.
    """

    _kinds: tuple[int, ...] = (binding.KIND_QUEUE,)

    def __init__(
        self,
        maxsize: int = 0,
        *,
        capacity: int = DEFAULT_CAPACITY,
        codec: CodecChoice = "pickle",
        producers: Side = "many",
        consumers: Side = "many",
        lock: Sleep = "futex",
        spin: float | None = None,
    ) -> None:
        self._start(_QueueParameters(maxsize, capacity, codec, producers, consumers, lock, spin))

    def qsize(self) -> int:
        """Items put and not taken, those included that wait in a living process."""
        return len(self)

    def full(self) -> bool:
        """Whether ``maxsize`` items are in the queue; it may have changed since."""
        return bool(0 < self._maxsize <= len(self))

    def join_thread(self) -> None:
        """Waits until what waited in this process is in the ring; only after ``close()``."""
        assert self.closed, f"{self!r} is not closed"
        self._line.join()

    def cancel_join_thread(self) -> None:
        """Lets this process exit although something waits in it, which is then lost."""
        self._line.cancelled = True


class JoinableQueue(Queue[T]):
    """A `Queue` that knows which of its items are being worked on.

    Each ``get`` is a task until ``task_done``, in whatever process.  The tasks of a process that
    dies, or closes the queue, count as done: ``join`` does not wait for what nobody works on any
    more.  An item whose ``get`` was killed in the middle is taken by the next one.
    """

    _kinds = (binding.KIND_JOINABLE_QUEUE,)
    _flags = binding.COUNT_TASKS

    def task_done(self) -> None:
        """One task fewer; `ValueError` if there is none."""
        self._task_done()

    def join(self) -> None:
        """Waits until everything put has been taken and is done."""
        self._join()


class SimpleQueue(_BaseQueue[T]):
    """A queue of objects without a thread, as `multiprocessing.SimpleQueue`: ``put`` blocks while
    there is no room in the ring."""

    _kinds = (binding.KIND_SIMPLE_QUEUE,)

    def __init__(
        self,
        *,
        capacity: int = DEFAULT_CAPACITY,
        codec: CodecChoice = "pickle",
        producers: Side = "many",
        consumers: Side = "many",
        lock: Sleep = "futex",
        spin: float | None = None,
    ) -> None:
        self._start(_QueueParameters(0, capacity, codec, producers, consumers, lock, spin))

    def _put_slowly(self, tag: int, data: bytes, block: bool, seconds: float) -> None:
        if not self._offer(tag, data, block, seconds, True):
            raise Full("the queue is full")
