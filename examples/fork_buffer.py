"""Share a buffer through fork, and count in it from several processes.

    python examples/fork_buffer.py [--processes N] [--steps N]

A step reads a number in the buffer, adds one, and writes it back. Under a Lock the total is right;
without one, two processes may read the same number, and then a step is lost.
"""

import argparse
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context

from shmipc import Lock, Segment

WORD = 8


def count(buffer: Segment, steps: int, guard: AbstractContextManager[object]) -> None:
    """Add `steps` to the number in `buffer`, one at a time, each under `guard`."""
    with memoryview(buffer) as raw, raw.cast("Q") as number:
        for _ in range(steps):
            with guard:
                number[0] += 1


def count_together(processes: int, steps: int, guard: AbstractContextManager[object]) -> int:
    """The number in a new buffer after `processes` forked children have each counted `steps`."""
    fork = get_context("fork")
    with Segment(WORD) as buffer:
        children = [
            fork.Process(target=count, args=(buffer, steps, guard)) for _ in range(processes)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        with memoryview(buffer) as raw, raw.cast("Q") as number:
            return number[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Count in a shared buffer.")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50_000, help="of each process")
    args = parser.parse_args()
    print(f"{args.processes} processes, {args.steps:,} steps each")
    print(f"expected       {args.processes * args.steps:10,}")
    print(f"with a lock    {count_together(args.processes, args.steps, Lock()):10,}")
    print(f"without a lock {count_together(args.processes, args.steps, nullcontext()):10,}")


if __name__ == "__main__":
    main()
