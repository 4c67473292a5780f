"""Every message arrives once and whole, however processes start and objects reach them."""

from __future__ import annotations

import importlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import BACKINGS, LOCKS, made, pack, pairwise_cases, random_size, unpack
from isolation import isolated

from shmipc import Queue, Ring

MESSAGES = 400  # of each producer
FACTORS: dict[str, Any] = {
    "start": ["fork", "spawn", "forkserver"],
    "library": ["multiprocessing", "multiprocess"],
    "backing": BACKINGS,
    "lock": LOCKS,
    "cls": [Ring, Queue],
    "producers": [1, 4],
    "consumers": [1, 4],
    "sides": ["one", "many"],
    "batch": [1, 7],
}


@pytest.mark.parametrize(list(FACTORS), pairwise_cases(FACTORS))
@isolated(limit=120, fresh=True)
def test_every_message_arrives_once_and_whole(
    start: str,
    library: str,
    backing: str,
    lock: str,
    cls: Any,
    producers: int,
    consumers: int,
    sides: str,
    batch: int,
    tmp_path: Path,
) -> None:
    context: Any = importlib.import_module(library).get_context(start)
    options = {
        "producers": sides if producers == 1 else "many",
        "consumers": sides if consumers == 1 else "many",
    }
    with made(cls, backing, tmp_path, lock=lock, **options) as channel:
        takers = [
            context.Process(target=consume, args=(channel, tmp_path / f"got-{n}", batch))
            for n in range(consumers)
        ]
        makers = [
            context.Process(target=produce, args=(channel, n, batch)) for n in range(producers)
        ]
        for process in takers + makers:
            process.start()
        for process in makers:
            process.join()
        channel.shutdown()
        for process in takers:
            process.join()
        assert [process.exitcode for process in takers + makers] == [0] * len(takers + makers)
        for process in takers + makers:
            process.close()
    check([tmp_path / f"got-{n}" for n in range(consumers)], producers)


def produce(channel: Any, writer: int, batch: int) -> None:
    rng = random.Random(writer)
    messages = [pack(writer, number, random_size(rng)) for number in range(MESSAGES)]
    if batch == 1:
        for message in messages:
            channel.put(message)
    for first in range(0, MESSAGES if batch > 1 else 0, batch):
        channel.put_many(messages[first : first + batch])


def consume(channel: Any, notes: Path, batch: int) -> None:
    """Writes down what came, one line a message, in order."""
    from shmipc import ShutDown

    with notes.open("w") as file:
        if batch == 1:
            for message in channel:
                print(*unpack(message), file=file)
            return
        try:
            while True:
                for message in channel.get_many(batch):
                    print(*unpack(message), file=file)
        except ShutDown:
            pass


def check(notes: list[Path], producers: int) -> None:
    """Every message once, and at each consumer those of one producer in order."""
    everything: Counter[tuple[int, int]] = Counter()
    for note in notes:
        last = [-1] * producers
        for line in note.read_text().splitlines():
            writer, number = map(int, line.split())
            assert number > last[writer], f"{note.name}: {number} of {writer} after {last[writer]}"
            last[writer] = number
            everything[writer, number] += 1
    expected = {(writer, number): 1 for writer in range(producers) for number in range(MESSAGES)}
    assert everything == expected


@pytest.mark.parametrize("lock", LOCKS)
@isolated(limit=120)
def test_one_large_message_after_another(lock: str) -> None:
    """Each fills the ring, so that every put waits for the get before."""
    with made(Ring, lock=lock) as ring:
        context: Any = importlib.import_module("multiprocessing").get_context("fork")
        longest = ring.max_message
        producer = context.Process(target=produce_large, args=(ring, longest))
        producer.start()
        for number in range(200):
            assert ring.get() == bytes([number]) * longest
        producer.join()
        producer.close()


def produce_large(ring: Ring, size: int) -> None:
    for number in range(200):
        ring.put(bytes([number]) * size)
