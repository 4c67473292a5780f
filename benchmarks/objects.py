"""How many small dictionaries a second go from one process to another?"""

from __future__ import annotations

from benchmarks.harness import Case, Question, main
from benchmarks.peers import OBJECTS, Channel
from benchmarks.report import Column, Unit
from benchmarks.streams import stream

RECORD = {"id": 12345, "name": "sensor-7", "value": 3.25, "tags": ["a", "b"]}
PICKLED_SIZE = 80
"""Bytes, about: what a channel that counts its messages is sized by."""


def measure(kind: type[Channel], seconds: float) -> tuple[float]:
    """Return the objects per second."""
    return (stream(kind, PICKLED_SIZE, RECORD, seconds),)


QUESTION = Question(
    title="Small dictionaries per second",
    channels=OBJECTS,
    cases=(Case((Column("objects", Unit.RATE),), measure),),
)

if __name__ == "__main__":
    main(QUESTION)
