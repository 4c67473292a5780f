"""Producers killed at random moments: nothing torn, nothing that was put lost, and all go on."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pytest
from helpers import KILLS, LOCKS, Forked, Words, made, pack, random_size, unpack
from isolation import isolated

from shmipc import Empty, Queue, Ring

SURVIVOR = 0


class Receipt:
    """Checks messages as they come: whole, and each writer's without a gap and in order."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.next: dict[int, int] = {}

    def take(self, timeout: float) -> bool:
        try:
            message = self.channel.get(timeout=timeout)
        except Empty:
            return False
        writer, number = unpack(message)
        assert number == self.next.get(writer, 0), f"{number} of {writer}: {self.next}"
        self.next[writer] = number + 1
        return True

    def check(self, writer: int, put: int) -> None:
        """All have come whose put had returned, and at most one whose put was killed."""
        got = self.next.get(writer, 0)
        assert put <= got <= put + 1, f"writer {writer}: {put} put, {got} came"

    def take_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.take(left)

    def take_from(self, writer: int, count: int) -> None:
        """Waits until `count` more of this writer have come."""
        goal = self.next.get(writer, 0) + count
        while self.next.get(writer, 0) < goal:
            self.take(60)


def produce(channel: Any, writer: int, tally: Words, batch: int) -> None:
    rng = random.Random(writer)
    for first in itertools.count(0, batch):
        messages = [pack(writer, first + n, random_size(rng)) for n in range(batch)]
        if batch == 1:
            channel.put(messages[0])
        else:
            channel.put_many(messages)
        tally[writer] = first + batch
        if rng.random() < 0.1:
            time.sleep(rng.random() / 1000)  # else the ring is always full


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("cls", [Ring, Queue])
@isolated(limit=120)
def test_the_others_go_on_when_producers_are_killed(
    cls: Any, lock: str, batch: int, kills: int
) -> None:
    rng = random.Random(kills)
    tally = Words(kills + 1)
    with made(cls, lock=lock) as channel:
        receipt = Receipt(channel)
        survivor = Forked(produce, channel, SURVIVOR, tally, batch)
        for victim in range(1, kills + 1):
            child = Forked(produce, channel, victim, tally, batch)
            receipt.take_for(rng.choice((0.005, 0.02, 0.05)) * rng.random())
            child.kill()
            receipt.take_from(SURVIVOR, 10)
        survivor.kill()
        while receipt.take(0.5):
            pass
        assert channel.put(pack(kills + 1, 0, 10)) is None
        assert receipt.take(60)
    for writer in range(kills + 1):
        got = receipt.next.get(writer, 0)
        assert got <= tally[writer] + batch
        if cls is Ring:  # what waits in a Queue's own process may die with it
            assert got >= tally[writer], f"writer {writer}: {tally[writer]} put, {got} came"


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("lock", LOCKS)
@isolated(limit=120)
def test_the_only_producer_is_killed_and_another_takes_its_side(lock: str, kills: int) -> None:
    rng = random.Random(kills)
    tally = Words(kills)
    with made(Ring, lock=lock, producers="one", consumers="one") as ring:
        receipt = Receipt(ring)
        for victim in range(kills):
            child = Forked(produce, ring, victim, tally, 1)
            receipt.take_from(victim, 1)
            receipt.take_for(rng.random() / 50)
            child.kill()
        while receipt.take(0.5):
            pass
    for writer in range(kills):
        receipt.check(writer, tally[writer])


@pytest.mark.parametrize("kills", KILLS)
@isolated(limit=120)
def test_producers_killed_while_they_wait_for_room(kills: int) -> None:
    """Nobody takes anything until all are dead; what had come in before is there, and no more."""
    with made(Ring) as ring:
        tally = Words(kills)
        rng = random.Random(kills)
        for victim in range(kills):
            child = Forked(produce, ring, victim, tally, 1)
            time.sleep(rng.random() / 50)
            child.kill()
        receipt = Receipt(ring)
        while receipt.take(0.5):
            pass
        for writer in range(kills):
            receipt.check(writer, tally[writer])
        for number in range(1000):  # and all the room is there again
            ring.put(pack(kills, number, 3000), timeout=60)
            assert receipt.take(60)
