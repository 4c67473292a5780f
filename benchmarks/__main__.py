"""Ask all the questions, one after the other: `python -m benchmarks`."""

from __future__ import annotations

from benchmarks import (
    batches,
    mapping,
    objects,
    parked,
    round_trip,
    sync,
    throughput,
    topologies,
)
from benchmarks.harness import main

if __name__ == "__main__":
    main(
        throughput.QUESTION,
        round_trip.QUESTION,
        parked.QUESTION,
        batches.QUESTION,
        topologies.QUESTION,
        objects.QUESTION,
        mapping.QUESTION,
        *sync.QUESTIONS,
    )
