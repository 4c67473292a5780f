"""Count the words of real files with several processes.

    python examples/word_count.py [FOLDER] [--producers N] [--consumers M] [--top N]

Producers read the Python files in FOLDER (by default, the standard library) and put their text into
one queue; consumers count the words and put the counts into another; this process adds them up.
Shutting the first queue down ends the consumers, without a mark in the stream for each.
"""

import argparse
import re
import sysconfig
from collections import Counter
from multiprocessing import Process
from pathlib import Path

from shmipc import Queue

WORD = re.compile(r"[a-z]{4,}")
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
CAPACITY = 64 * 1024 * 1024
"""Bytes of room in the queue of texts: no single text may be larger."""


def read_files(paths: list[Path], texts: Queue[str]) -> None:
    """A producer."""
    for path in paths:
        texts.put(path.read_text(errors="replace"))


def count_words(texts: Queue[str], counts: Queue[Counter[str]]) -> None:
    """A consumer; the loop ends when the queue has been shut down and is empty."""
    for text in texts:
        counts.put(Counter(WORD.findall(text.lower())))


def count_files(paths: list[Path], producers: int, consumers: int) -> Counter[str]:
    """The words of all files, counted by `producers` and `consumers` processes."""
    with Queue[str](maxsize=64, capacity=CAPACITY) as texts, Queue[Counter[str]]() as counts:
        shares = [paths[i::producers] for i in range(producers)]
        workers = [Process(target=read_files, args=(share, texts)) for share in shares]
        workers += [Process(target=count_words, args=(texts, counts)) for _ in range(consumers)]
        for worker in workers:
            worker.start()
        total = Counter[str]()
        for _ in paths:
            total.update(counts.get(timeout=60))  # Empty, should a worker have been killed
        texts.shutdown()
        for worker in workers:
            worker.join()
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Count words.")
    parser.add_argument("folder", nargs="?", type=Path, default=STANDARD_LIBRARY)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--consumers", type=int, default=2)
    parser.add_argument("--top", type=int, default=10)
    args = parser.parse_args()
    paths = [path for path in args.folder.glob("*.py") if path.is_file()]
    total = count_files(paths, args.producers, args.consumers)
    print(f"{total.total():,} words, {len(total):,} of them different, in {len(paths)} files")
    for word, times in total.most_common(args.top):
        print(f"{times:8,}  {word}")


if __name__ == "__main__":
    main()
