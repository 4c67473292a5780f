"""Consumers killed at random moments: each takes at most what its last get had in hand."""

from __future__ import annotations

import mmap
import random
import time
from typing import Any

import pytest
from helpers import KILLS, LOCKS, Forked, made, pack, random_size, unpack
from isolation import isolated

from shmipc import Full, JoinableQueue, Queue, Ring, ShutDown

ROOM = 1 << 22  # messages of one test, at most


class Seen:
    """How often each message has come, in memory of the kernel's own, not shmipc's."""

    def __init__(self) -> None:
        self.times = mmap.mmap(-1, ROOM)
        self.late = mmap.mmap(-1, ROOM)

    def add(self, number: int, late: bool = False) -> None:
        self.times[number] += 1
        self.late[number] = late

    def check(self, messages: int, in_hand: int) -> None:
        """None came twice, none was lost but what killed gets had in hand; of that, what was given
        back came late."""
        times = self.times[:messages]
        assert max(times) == 1, f"{times.count(2)} messages came twice"
        assert times.count(0) <= in_hand, f"{times.count(0)} of {messages} lost"
        late = self.late[:messages].count(1)
        assert late <= in_hand, f"{late} of {messages} came out of order"


class Source:
    """Puts numbered messages for a while."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.rng = random.Random(1)
        self.count = 0

    def put_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.channel.put(pack(0, self.count, random_size(self.rng)), timeout=left)
                self.count += 1
            except Full:
                continue


def consume(channel: Any, seen: Seen, batch: int) -> None:
    last = -1
    try:
        while True:
            for message in [channel.get()] if batch == 1 else channel.get_many(batch):
                _, number = unpack(message)
                seen.add(number, late=number < last)
                last = max(last, number)
    except ShutDown:
        return


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("cls", [Ring, Queue])
@isolated(limit=120)
def test_the_others_go_on_when_consumers_are_killed(
    cls: Any, lock: str, batch: int, kills: int
) -> None:
    rng = random.Random(kills)
    seen = Seen()
    with made(cls, lock=lock) as channel:
        source = Source(channel)
        survivor = Forked(consume, channel, seen, batch)
        for _ in range(kills):
            victim = Forked(consume, channel, seen, batch)
            source.put_for(rng.choice((0.005, 0.02, 0.05)) * rng.random())
            victim.kill()
        source.put_for(0.1)
        channel.shutdown()
        survivor.result()
    seen.check(source.count, kills * batch)


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("lock", LOCKS)
@isolated(limit=120)
def test_the_only_consumer_is_killed_and_another_takes_its_side(lock: str, kills: int) -> None:
    rng = random.Random(kills)
    seen = Seen()
    with made(Ring, lock=lock, producers="one", consumers="one") as ring:
        source = Source(ring)
        for _ in range(kills):
            victim = Forked(consume, ring, seen, 1)
            source.put_for(rng.random() / 50)
            victim.kill()
        last = Forked(consume, ring, seen, 1)
        source.put_for(0.1)
        ring.shutdown()
        last.result()
    seen.check(source.count, kills)


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("lock", LOCKS)
@isolated(limit=120)
def test_maxsize_keeps_its_promise_after_kills(lock: str, kills: int) -> None:
    """The depth is derived: a get that was killed leaves no place taken and none too many."""
    rng = random.Random(kills)
    seen = Seen()
    with made(Queue, maxsize=4, lock=lock) as queue:
        source = Source(queue)
        for _ in range(kills):
            victim = Forked(consume, queue, seen, 1)
            source.put_for(rng.random() / 50)
            victim.kill()
        while not queue.empty():
            queue.get(timeout=60)
        assert queue.qsize() == 0
        for number in range(4):
            queue.put(number, timeout=60)
        assert queue.full()
        with pytest.raises(Full):
            queue.put_nowait(4)
        assert [queue.get(timeout=60) for _ in range(4)] == [0, 1, 2, 3]


def work(queue: JoinableQueue[int], seen: Seen) -> None:
    for number in queue:
        seen.add(number)
        queue.task_done()


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("lock", LOCKS)
@isolated(limit=120)
def test_join_returns_though_workers_died_before_task_done(lock: str, kills: int) -> None:
    rng = random.Random(kills)
    seen = Seen()
    with made(JoinableQueue, lock=lock) as queue:
        tasks = 0
        survivor = Forked(work, queue, seen)
        for _ in range(kills):
            victim = Forked(work, queue, seen)
            deadline = time.monotonic() + rng.random() / 30
            while time.monotonic() < deadline:
                queue.put(tasks)
                tasks += 1
            victim.kill()
            queue.join()
            assert queue.empty()
        queue.shutdown()
        survivor.result()
    seen.check(tasks, kills)


@isolated()
def test_the_tasks_of_a_killed_worker_count_as_done() -> None:
    with made(JoinableQueue) as queue:
        for number in range(3):
            queue.put(number)

        def take_two_and_die() -> None:
            queue.get()
            queue.get()

        Forked(take_two_and_die).result()
        assert queue.get() == 2
        queue.task_done()
        queue.join()
        with pytest.raises(ValueError):
            queue.task_done()
