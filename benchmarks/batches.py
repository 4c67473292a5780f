"""How many messages a second go from one process to another, 64 at a time?"""

from __future__ import annotations

from contextlib import closing
from functools import partial

from benchmarks.harness import Case, Question, main
from benchmarks.peers import BATCHES, Channel
from benchmarks.processes import Lap, Lockstep, apart, elapsed, run
from benchmarks.report import Column, Unit
from benchmarks.streams import check, get_many_burst, produce

BATCH = 64
SIZES = {"8 B": 8, "1 KiB": 1024}


def consume(channel: Channel, batch: list[bytes], step: Lockstep) -> Lap:
    """Be the consumer; a get may bring any part of a batch."""
    get_many = channel.receiver()
    step.meet()
    received: list[bytes] = []
    while len(received) < len(batch):
        received += get_many()
    check(received, batch)
    return step.run(partial(get_many_burst, get_many, len(batch)), leads=True)


def measure(size: int, kind: type[Channel], seconds: float) -> tuple[float]:
    """Return the messages, not batches, of `size` bytes per second."""
    step = Lockstep(2, seconds)
    batch = [bytes(size) for _ in range(BATCH)]  # not 64 times the same: pickle would notice
    with closing(kind(size)) as channel:
        producer = partial(produce, channel, batch, step)
        consumer = partial(consume, channel, batch, step)
        laps: list[Lap] = run(apart(producer, consumer), seconds)
    return (BATCH * laps[-1].turns / elapsed(laps),)


QUESTION = Question(
    title=f"Messages per second, {BATCH} at a time",
    channels=BATCHES,
    cases=tuple(
        Case((Column(label, Unit.RATE),), partial(measure, size)) for label, size in SIZES.items()
    ),
)

if __name__ == "__main__":
    main(QUESTION)
