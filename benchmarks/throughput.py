"""How many messages a second go from one process to another, one put and one get at a time?"""

from __future__ import annotations

from functools import partial

from benchmarks.harness import Case, Question, main
from benchmarks.peers import STREAMS, Channel
from benchmarks.report import Column, Unit
from benchmarks.streams import stream

SIZES = {"8 B": 8, "1 KiB": 1024, "64 KiB": 64 * 1024, "1 MiB": 1024 * 1024}


def measure(size: int, kind: type[Channel], seconds: float) -> tuple[float]:
    """Return the messages of `size` bytes per second."""
    return (stream(kind, size, bytes(size), seconds),)


QUESTION = Question(
    title="Messages per second, single put and get",
    channels=STREAMS,
    cases=tuple(
        Case((Column(label, Unit.RATE),), partial(measure, size)) for label, size in SIZES.items()
    ),
)

if __name__ == "__main__":
    main(QUESTION)
