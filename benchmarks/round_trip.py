"""How long are 64 bytes on their way there and back, with both processes awake?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise, repeat
from statistics import median
from time import perf_counter_ns

from benchmarks.harness import Case, Question, main
from benchmarks.peers import STREAMS, Channel
from benchmarks.processes import Lockstep, apart, run
from benchmarks.report import Column, Unit
from benchmarks.streams import check

MESSAGE = bytes(64)


def ping(there: Channel, back: Channel, step: Lockstep) -> tuple[float, float]:
    """Send and await the echo; return the median and the mean round trip in microseconds.

    Each turn reads the clock once, which is in the figures of all.
    """
    put, get = there.sender(), back.receiver()
    stamps: list[int] = []

    def burst(turns: int) -> None:
        stamps.clear()
        stamp = stamps.append
        for _ in repeat(None, turns):
            put(MESSAGE)
            get()
            stamp(perf_counter_ns())

    step.meet()
    put(MESSAGE)
    check(back.unwrap(get()), MESSAGE)
    lap = step.run(burst, leads=True)
    return _median_gap(stamps) / 1e3, (lap.end - lap.start) / lap.turns * 1e6


def pong(there: Channel, back: Channel, step: Lockstep) -> None:
    """Answer every message with one of the same size."""
    get, put = there.receiver(), back.sender()

    def burst(turns: int) -> None:
        for _ in repeat(None, turns):
            get()
            put(MESSAGE)

    step.meet()
    burst(1)
    step.run(burst)


def _median_gap(stamps: Sequence[int]) -> float:
    return median(later - earlier for earlier, later in pairwise(stamps))


def measure(kind: type[Channel], seconds: float) -> tuple[float, float]:
    """Return the median and the mean round trip, in microseconds."""
    step = Lockstep(2, seconds)
    with closing(kind(len(MESSAGE))) as there, closing(kind(len(MESSAGE))) as back:
        pinger, ponger = partial(ping, there, back, step), partial(pong, there, back, step)
        result: tuple[float, float]
        result, _ = run(apart(pinger, ponger), seconds)
    return result


QUESTION = Question(
    title="Round trip of 64 B, both sides awake",
    channels=STREAMS,
    cases=(Case((Column("p50", Unit.MICROSECONDS), Column("mean", Unit.MICROSECONDS)), measure),),
)

if __name__ == "__main__":
    main(QUESTION)
