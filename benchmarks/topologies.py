"""How many messages a second come from three producers that share a core?"""

from __future__ import annotations

from contextlib import closing
from functools import partial

from benchmarks.harness import Case, Question, main
from benchmarks.peers import MANY_PRODUCERS, Channel
from benchmarks.processes import Lap, Lockstep, elapsed, halves, pinned, run
from benchmarks.report import Column, Unit
from benchmarks.streams import consume, produce

PRODUCERS = 3
MESSAGE = bytes(64)


def measure(kind: type[Channel], seconds: float) -> tuple[float]:
    """Return the messages per second: the producers on one core, the consumer on others."""
    first, second = halves()
    step = Lockstep(PRODUCERS + 1, seconds)
    with closing(kind(len(MESSAGE))) as channel:
        producer = partial(produce, channel, MESSAGE, step)
        consumer = partial(consume, channel, MESSAGE, step, PRODUCERS)
        sides = [partial(pinned, first[:1], producer)] * PRODUCERS
        laps: list[Lap] = run([*sides, partial(pinned, second, consumer)], seconds)
    return (PRODUCERS * laps[-1].turns / elapsed(laps),)


QUESTION = Question(
    title=f"Messages of 64 B per second, {PRODUCERS} producers on one core, 1 consumer",
    channels=MANY_PRODUCERS,
    cases=(Case((Column("64 B", Unit.RATE),), measure),),
)

if __name__ == "__main__":
    main(QUESTION)
