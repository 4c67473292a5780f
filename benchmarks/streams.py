"""Streams of messages from producers to a consumer: the timed loops, and what is around them."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from itertools import repeat
from typing import Any

from benchmarks.peers import Channel, Get, Put
from benchmarks.processes import Lap, Lockstep, apart, elapsed, run

# --- the timed loops ------------------------------------------------------------------------------


def put_burst(put: Put, message: Any, turns: int) -> None:
    """Put the message `turns` times."""
    for _ in repeat(None, turns):
        put(message)


def get_burst(get: Get, turns: int) -> None:
    """Get `turns` messages."""
    for _ in repeat(None, turns):
        get()


def get_many_burst(get_many: Get, batch: int, turns: int) -> None:
    """Get `turns` times `batch` messages, in lists of any length."""
    left = turns * batch
    while left > 0:
        left -= len(get_many())


# --- a stream from producers to one consumer ------------------------------------------------------


def produce(channel: Channel, message: Any, step: Lockstep) -> Lap:
    """Be a producer: put one message that the consumer checks, then the bursts."""
    put = channel.sender()
    step.meet()
    put(message)
    return step.run(partial(put_burst, put, message))


def consume(channel: Channel, message: Any, step: Lockstep, producers: int = 1) -> Lap:
    """Be the consumer of all producers."""
    get = channel.receiver()
    step.meet()
    for _ in repeat(None, producers):
        check(channel.unwrap(get()), message)
    return step.run(lambda turns: get_burst(get, turns * producers), leads=True)


def check(received: Any, sent: Any) -> None:
    """Raise ValueError unless what came is what went: a fast wrong answer is no answer."""
    if received != sent:
        raise ValueError(f"sent {sent!r:.40}, received {received!r:.40}")


def stream(kind: type[Channel], size: int, message: Any, seconds: float) -> float:
    """Return the messages per second from one producer to one consumer."""
    step = Lockstep(2, seconds)
    with closing(kind(size)) as channel:
        producer = partial(produce, channel, message, step)
        consumer = partial(consume, channel, message, step)
        laps: list[Lap] = run(apart(producer, consumer), seconds)
    return laps[-1].turns / elapsed(laps)
