"""Fill one NumPy array from several processes, and watch how far they are.

    python examples/shared_array.py [--processes N] [--size N]

The array and the counter go to the workers as arguments; nothing is copied. Each worker takes the
next row by adding to the counter, so that whoever is faster does more, and writes into its row.
"""

import argparse
from multiprocessing import get_context

import numpy as np

from shmipc import SharedArray, Value


def fill(image: SharedArray, rows_done: object) -> None:
    """Count, for each point of a row, the steps that the Mandelbrot series takes to escape."""
    height, width = image.shape
    while True:
        with rows_done.get_lock():
            row = rows_done.value
            if row == height:
                return
            rows_done.value += 1
        c = np.linspace(-2, 0.5, width) + 1j * (row / height * 2.5 - 1.25)
        z = np.zeros_like(c)
        for _ in range(60):
            inside = abs(z) < 2
            z[inside] = z[inside] ** 2 + c[inside]
            image[row] += inside


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill a shared array.")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--size", type=int, default=400, help="rows and columns")
    args = parser.parse_args()
    image = SharedArray((args.size, args.size), np.int32)
    rows_done = Value("i")
    context = get_context("spawn")
    workers = [context.Process(target=fill, args=(image, rows_done)) for _ in range(args.processes)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        workers[0].join(0.05)
        print(f"\r{rows_done.value} of {args.size} rows begun", end="", flush=True)
        for worker in workers:
            worker.join(0.05)
    print()
    for row in image[:: max(1, args.size // 20), :: max(1, args.size // 60)]:
        print("".join(" .:-=+*#%@"[min(9, steps // 6)] for steps in row))
    print(f"{int(image.sum()):,} steps in all")


if __name__ == "__main__":
    main()
