"""The receiving one of two programs that meet by name; the other is producer.py.

    python examples/meet_by_name/consumer.py [--name NAME]

Start the two in any order. Kill this one with ``kill -9`` and start it again: what it had not
taken is still in the queue, so at most the number in its hands is lost. It ends when the producer
has sent everything, and then removes the names.
"""

import argparse
from collections.abc import Iterator

from shmipc import Empty, Queue, Segment, ShutDown

BACKLOG = 100
"""As in producer.py: whichever comes first makes the queue, and the other must agree."""


def numbers(queue: Queue[int]) -> Iterator[int]:
    """What comes, until the producer says that it was all; a line each second without any."""
    while True:
        try:
            yield queue.get(timeout=1)
        except Empty:
            others = [each.pid for each in queue.participants() if each.alive and not each.me]
            print(f"waiting; the producer is {others or 'not there'}", flush=True)
        except ShutDown:
            return


def receive(queue: Queue[int]) -> None:
    """Print each number, and in the end what was missing or came again."""
    seen = set[int]()
    again = 0
    for number in numbers(queue):
        print(f"received {number}", flush=True)
        again += number in seen
        seen.add(number)
    missing = len(range(min(seen), max(seen) + 1)) - len(seen) if seen else 0
    print(f"{len(seen)} numbers, {missing} missing, {again} came again")


def main() -> None:
    parser = argparse.ArgumentParser(description="Receive numbers from producer.py.")
    parser.add_argument("--name", default="meet-by-name")
    args = parser.parse_args()
    with Queue[int].open(args.name, maxsize=BACKLOG) as queue:
        receive(queue)
    Queue.unlink(args.name)
    Segment.unlink(f"{args.name}.next")


if __name__ == "__main__":
    main()
