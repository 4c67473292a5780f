"""The sending one of two programs that meet by name; the other is consumer.py.

    python examples/meet_by_name/producer.py [--name NAME] [--count N] [--pause SECONDS]

Start the two in any order. Kill this one with ``kill -9`` and start it again: it goes on with the
number at which it was. That number lies in a named segment beside the queue.
"""

import argparse
import time

from shmipc import Queue, Segment

BACKLOG = 100
"""Numbers that may wait. A bound makes `put` return only when the number is in shared memory."""

WORD = 8


def send(queue: Queue[int], next_number: memoryview, count: int, pause: float) -> None:
    """Send the numbers below `count` that are still to be sent."""
    while (number := next_number[0]) < count:
        queue.put(number)
        # Killed here, this program sends the number again when it is back. The other order of
        # these two lines would leave it out instead.
        next_number[0] = number + 1
        time.sleep(pause)


def main() -> None:
    parser = argparse.ArgumentParser(description="Send numbers to consumer.py.")
    parser.add_argument("--name", default="meet-by-name")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two numbers")
    args = parser.parse_args()
    with (
        Segment.open(f"{args.name}.next", WORD) as place,
        Queue[int].open(args.name, maxsize=BACKLOG) as queue,
        memoryview(place) as raw,
        raw.cast("Q") as next_number,
    ):
        print(f"sending from {next_number[0]} on", flush=True)
        send(queue, next_number, args.count, args.pause)
        queue.shutdown()  # the consumer takes what is still in the queue, and ends
    print("all sent")


if __name__ == "__main__":
    main()
