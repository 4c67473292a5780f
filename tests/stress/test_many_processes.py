"""More processes than CPUs, long: run with `-m stress` or SHMIPC_STRESS=1; a short form always."""

from __future__ import annotations

import mmap
import random
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from helpers import LOCK_CLASSES, LOCKS, Forked, Gate, flush, made, pack, random_size, unpack
from isolation import isolated

from shmipc import Empty, Full, Queue, Ring, ShutDown

ROUNDS = [pytest.param(500, id="short"), pytest.param(400_000, id="long", marks=pytest.mark.stress)]


def produce(channel: Any, writer: int, rounds: int) -> None:
    """Every way to put, mixed."""
    rng = random.Random(writer)
    number = 0
    while number < rounds:
        messages = [pack(writer, number + n, random_size(rng)) for n in range(rng.randrange(1, 9))]
        way = rng.randrange(3)
        if way == 0:
            messages = messages[:1]
            channel.put(messages[0])
        elif way == 1:
            channel.put_many(messages)
        else:
            messages = messages[: put_many_for_a_moment(channel, messages)]
        number += len(messages)
    channel.put(pack(writer, number, 0) + b"last")
    flush(channel)


def put_many_for_a_moment(channel: Any, messages: list[bytes]) -> int:
    try:
        return int(channel.put_many(messages, timeout=0.001))
    except Full as full:
        return int(full.count)


def consume(channel: Any, seed: int) -> list[tuple[int, int, bool]]:
    """Every way to get, mixed; (writer, number, is the last)."""
    rng = random.Random(seed)
    got: list[tuple[int, int, bool]] = []
    while True:
        try:
            way = rng.randrange(3)
            if way == 0:
                messages = [channel.get(timeout=0.01)]
            elif way == 1:
                messages = channel.get_many(rng.randrange(1, 20), timeout=0.01)
            else:
                messages = [channel.get()]
        except Empty:
            continue
        except ShutDown:
            return got
        for message in messages:
            last = message.endswith(b"last")
            got.append((*unpack(message[:-4] if last else message), last))


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("cls", [Ring, Queue])
@pytest.mark.parametrize("people", [2, 8])
@isolated(limit=180)
def test_all_ways_to_put_and_get_mixed(cls: Any, lock: str, people: int, rounds: int) -> None:
    with made(cls, lock=lock) as channel:
        consumers = [Forked(consume, channel, seed) for seed in range(people)]
        producers = [Forked(produce, channel, writer, rounds) for writer in range(people)]
        for producer in producers:
            producer.result()
        channel.shutdown()
        results = [consumer.result() for consumer in consumers]
    for result in results:
        for writer in range(people):
            numbers = [number for who, number, _ in result if who == writer]
            assert numbers == sorted(set(numbers))
    everything = [message for result in results for message in result]
    for writer in range(people):
        numbers = sorted(number for who, number, _ in everything if who == writer)
        last = next(number for who, number, is_last in everything if who == writer and is_last)
        assert numbers == list(range(last + 1))


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("spin", [None, 0])
@pytest.mark.parametrize("lock", LOCKS)
@isolated(limit=180)
def test_ping_pong_never_misses_a_wake(lock: str, spin: Any, rounds: int) -> None:
    with made(Ring, lock=lock, spin=spin) as there, made(Ring, lock=lock, spin=spin) as back:

        def echo() -> None:
            for message in there:
                back.put(message)

        child = Forked(echo)
        for number in range(rounds):
            there.put(number.to_bytes(4, "little"))
            assert back.get() == number.to_bytes(4, "little")
        there.shutdown()
        child.result()


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated(limit=180)
def test_processes_and_threads_count_under_one_lock(cls: Any, rounds: int) -> None:
    total = mmap.mmap(-1, 8)

    def count() -> None:
        for _ in range(rounds):
            with lock:
                total[:8] = (int.from_bytes(total[:8], "little") + 1).to_bytes(8, "little")

    def in_threads() -> None:
        threads = [threading.Thread(target=count) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with made(cls) as lock:
        for child in [Forked(in_threads) for _ in range(3)]:
            child.result()
    assert int.from_bytes(total[:8], "little") == 6 * rounds


@pytest.mark.parametrize(
    "rounds", [pytest.param(20, id="short"), pytest.param(500, marks=pytest.mark.stress)]
)
@pytest.mark.parametrize("lock", LOCKS)
@isolated(limit=180)
def test_processes_come_and_go(lock: str, rounds: int) -> None:
    """Short-lived producers and consumers, killed or not, on one ring that lives long."""
    rng = random.Random(rounds)
    with made(Ring, lock=lock) as ring:

        def put_some(writer: int) -> None:
            for number in range(50):
                ring.put(pack(writer, number, 50), timeout=0.05)

        def take_some() -> None:
            for _ in range(50):
                unpack(ring.get(timeout=0.05))

        for number in range(rounds):
            people = [Forked(_until_full_or_empty, put_some, number) for _ in range(2)]
            people += [Forked(_until_full_or_empty, take_some) for _ in range(2)]
            time.sleep(rng.random() / 100)
            people.pop(rng.randrange(4)).kill()
            for one in people:
                one.result()
        for message in ring.drain():
            unpack(message)
        ring.put(b"goes on")
        assert ring.get() == b"goes on"


def _until_full_or_empty(work: Any, *arguments: Any) -> None:
    with suppress(Full, Empty):
        work(*arguments)


@pytest.mark.parametrize("lock", LOCKS)
@isolated()
def test_a_stopped_process_keeps_what_it_claimed(lock: str) -> None:
    """SIGSTOP in the middle: no time-out makes others take over; with SIGCONT all comes whole."""
    with made(Ring, lock=lock) as ring:
        started = Gate()

        def put_all() -> None:
            started.open()
            for number in range(3000):
                ring.put(pack(0, number, number % 3000))

        child = Forked(put_all)
        started.wait()
        rng = random.Random(1)
        expected = 0
        while expected < 3000:
            if rng.random() < 0.005 and expected < 2500:
                child.stop()
                expected = _take_while_there_is(ring, expected)
                child.cont()
            assert unpack(ring.get()) == (0, expected)
            expected += 1
        child.result()
        started.close()


def _take_while_there_is(ring: Ring, expected: int) -> int:
    while (message := ring.try_get()) is not None:
        assert unpack(message) == (0, expected)
        expected += 1
    return expected
