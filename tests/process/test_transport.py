"""Objects travel: as process arguments, through pools and executors, through a queue; with all
their options."""

from __future__ import annotations

import importlib
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    ARGUMENTS,
    BACKINGS,
    CLASSES,
    EACH_CLASS,
    TESTS,
    Forked,
    in_child,
    json_dumps,
    leave_sign,
    made,
    named,
    pairwise_cases,
    remove_sign,
    run_python,
    sign_is_there,
)
from isolation import isolated

from shmipc import BusyError, Full, JoinableQueue, Queue, Ring, Segment, ShmipcError, SimpleQueue

FACTORS: dict[str, Any] = {
    "cls": CLASSES,
    "start": ["fork", "spawn", "forkserver"],
    "library": ["multiprocessing", "multiprocess"],
    "backing": BACKINGS,
    "vehicle": ["process", "pool", "executor"],
}


def look(thing: Any, answer: Any) -> None:
    answer.put(sign_is_there(thing))


def by_process(context: Any, thing: Any) -> Any:
    answer = context.SimpleQueue()
    process = context.Process(target=look, args=(thing, answer))
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()
    try:
        return answer.get()
    finally:
        answer.close()


def by_pool(context: Any, thing: Any) -> Any:
    with context.Pool(2) as pool:
        try:
            return pool.map(sign_is_there, [thing])[0]
        finally:
            pool.close()
            pool.join()


def by_executor(context: Any, thing: Any) -> Any:
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        return executor.submit(sign_is_there, thing).result()


@pytest.mark.parametrize(list(FACTORS), pairwise_cases(FACTORS))
@isolated(fresh=True)
def test_every_object_travels(
    cls: Any, start: str, library: str, backing: str, vehicle: str, tmp_path: Path
) -> None:
    context = importlib.import_module(library).get_context(start)
    if vehicle == "executor":  # concurrent.futures knows multiprocessing only
        context = importlib.import_module("multiprocessing").get_context(start)
    with made(cls, backing, tmp_path) as thing:
        leave_sign(thing)
        assert globals()[f"by_{vehicle}"](context, thing) is True
        remove_sign(thing)


@pytest.mark.parametrize("backing", BACKINGS)
@pytest.mark.parametrize("cls", EACH_CLASS)
@isolated()
def test_every_object_travels_through_a_queue(cls: Any, backing: str, tmp_path: Path) -> None:
    with made(Queue) as channel, made(cls, backing, tmp_path) as thing:
        leave_sign(thing)
        child = Forked(lambda: sign_is_there(channel.get()[0]))
        channel.put([thing])
        assert child.result() is True
        remove_sign(thing)


@pytest.mark.parametrize("cls", EACH_CLASS)
@isolated()
def test_every_object_travels_to_an_unrelated_program(cls: Any, name: str) -> None:
    with named(Queue, name) as channel, made(cls) as thing:
        leave_sign(thing)
        channel.put(thing)
        script = f"import helpers, shmipc; q = shmipc.Queue.attach({name!r}); t = q.get()"
        done = run_python(
            "-c",
            f"{script}; print(helpers.sign_is_there(t))",
            PYTHONPATH=str(TESTS),
        )
        assert (done.stdout, done.stderr) == ("True\n", "")
        remove_sign(thing)


@pytest.mark.parametrize("cls", EACH_CLASS)
@isolated()
def test_a_travelled_object_outlives_its_senders_handle(cls: Any) -> None:
    """What the receiver has opened stays, when the sender closes his."""
    with made(Queue) as channel, made(Queue) as back:

        def receive() -> bool:
            received = channel.get()
            back.put("opened")
            assert channel.get() == "closed"
            leave_sign(received)
            remove_sign(received)
            received.close()
            return True

        child = Forked(receive)
        thing = cls(**ARGUMENTS[cls])
        channel.put(thing)
        assert back.get() == "opened"
        thing.close()
        channel.put("closed")
        assert child.result()


def test_an_object_that_went_and_came_back_is_the_same() -> None:
    with made(Queue) as channel, made(Segment) as segment:
        channel.put(segment)
        with channel.get() as twin:
            twin.buf[7] = 77
            assert segment.buf[7] == 77


TRAVELLED_OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (Ring, {"producers": "one", "lock": "semaphore", "spin": 0, "capacity": 1 << 17}),
    (Queue, {"maxsize": 2, "codec": (json_dumps, json.loads), "lock": "semaphore"}),
    (JoinableQueue, {"maxsize": 2}),
    (SimpleQueue, {"capacity": 1 << 17}),
]


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("cls", "options"), TRAVELLED_OPTIONS, ids=lambda v: getattr(v, "__name__", "")
)
@isolated(fresh=True)
def test_all_options_travel_along(cls: Any, options: dict[str, Any], start: str) -> None:
    context = importlib.import_module("multiprocessing").get_context(start)
    with made(cls, **options) as thing:
        thing.put(b"first" if cls is Ring else "first")
        with context.Pool(1) as pool:
            assert pool.apply(facts, (thing,)) == facts(thing)
            pool.close()
            pool.join()


def facts(thing: Any) -> list[Any]:
    """What an option makes observable; leaves the channel as it was."""
    if isinstance(thing, Ring):
        return [thing.capacity, thing.max_message]
    if isinstance(thing, SimpleQueue):
        return [thing.empty()]
    seen = [thing.qsize(), thing.full()]
    thing.put((1, 2))
    with pytest.raises(Full):
        thing.put_nowait(3)
    first, second = thing.get(), thing.get()
    thing.put("first")
    return [*seen, first, second]


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@isolated(fresh=True)
def test_the_claim_of_a_side_holds_in_started_processes(start: str) -> None:
    context = importlib.import_module("multiprocessing").get_context(start)
    with made(Ring, producers="one") as ring, context.Pool(1) as pool:
        ring.put(b"mine")
        with pytest.raises(BusyError):
            pool.apply(put_byte, (ring,))
        ring.release_producer()
        pool.apply(put_byte, (ring,))
        assert ring.drain() == [b"mine", b"x"]
        pool.close()
        pool.join()


def put_byte(ring: Ring) -> None:
    ring.put(b"x")


@isolated()
def test_an_object_from_a_dead_sender_is_a_clear_error() -> None:
    """An anonymous object that waits in a queue dies with the last process that has it."""

    def send() -> None:
        channel.put(Segment(100))

    with made(Queue) as channel:
        in_child(send)
        with pytest.raises((OSError, ShmipcError)):
            channel.get(timeout=10)
        channel.put("goes on")
        assert channel.get() == "goes on"
