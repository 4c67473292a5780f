"""Files through a queue: producers read them, consumers examine them, results come back."""

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import shmipc
from shmipc.cli._errors import CommandError
from shmipc.cli._files import Listing, Result, Source, examine, read
from shmipc.cli._workers import Crew, MessageQueue

BACKLOG = 64
"""Files that may wait between the producers and the consumers, so that memory stays bounded."""

SMALLEST_CAPACITY = 4 * 1024 * 1024
MESSAGE_OVERHEAD = 64 * 1024
"""Bytes, and plenty, for what a message carries beside a file's contents: its path and headers."""


@dataclass(frozen=True, slots=True)
class QueueKind:
    """A queue class under trial."""

    name: str
    make: Callable[[int, int], MessageQueue]
    """Makes a queue for at most so many messages (0: any number), whose ring has so many bytes."""


@dataclass(frozen=True, slots=True)
class Team:
    """How many processes work on each side."""

    producers: int
    consumers: int


def _shmipc_queue(maxsize: int, capacity: int) -> MessageQueue:
    return shmipc.Queue(maxsize, capacity=capacity)


def _multiprocessing_queue(maxsize: int, capacity: int) -> MessageQueue:
    return multiprocessing.Queue(maxsize)  # a pipe has room for a message of any size


SHMIPC = QueueKind("shmipc.Queue", _shmipc_queue)
MULTIPROCESSING = QueueKind("multiprocessing.Queue", _multiprocessing_queue)


def relay(
    listing: Listing, kind: QueueKind, team: Team, on_progress: Callable[[int], object]
) -> list[Result]:
    """Send every file of `listing` through queues of `kind`; the results, in no certain order.

    `on_progress` is told from time to time how many results there are. A worker that dies ends the
    run with `WorkerDied`.
    """
    work = _make(kind, BACKLOG, capacity_for(listing.largest))
    results = _make(kind, 0, SMALLEST_CAPACITY)
    try:
        received = _run(listing, team, work, results, on_progress)
    except BaseException:
        # What is still on its way has nobody to take it: do not wait for that at exit.
        work.cancel_join_thread()
        results.cancel_join_thread()
        raise
    for queue in (work, results):
        queue.close()
        queue.join_thread()
    return received


def capacity_for(largest: int) -> int:
    """Bytes of a ring through which a file of `largest` bytes passes."""
    return max(SMALLEST_CAPACITY, largest + MESSAGE_OVERHEAD)


def _make(kind: QueueKind, maxsize: int, capacity: int) -> MessageQueue:
    try:
        return kind.make(maxsize, capacity)
    except OSError as error:
        raise CommandError(f"no {kind.name} of {capacity:,} bytes: {error}") from error


def _run(
    listing: Listing,
    team: Team,
    work: MessageQueue,
    results: MessageQueue,
    on_progress: Callable[[int], object],
) -> list[Result]:
    collector = _Collector(results)
    with Crew(lambda: on_progress(collector.check())) as crew:
        producers = [
            crew.start(f"producer {i + 1}", _produce, listing.root, share, work)
            for i, share in enumerate(_shares(listing.sources, team.producers))
        ]
        consumers = [
            crew.start(f"consumer {i + 1}", _consume, work, results) for i in range(team.consumers)
        ]
        collector.start()  # a thread, so after the forks
        crew.join(producers)
        for _ in consumers:
            crew.put(work, None)
        crew.join(consumers)
    results.put(None)
    collector.join()
    on_progress(collector.check())
    return collector.results


def _shares(sources: Sequence[Source], parts: int) -> list[Sequence[Source]]:
    return [sources[i::parts] for i in range(parts)]


def _produce(root: Path, sources: Sequence[Source], work: MessageQueue) -> None:
    for source in sources:
        work.put((source.path, read(root, source)))


def _consume(work: MessageQueue, results: MessageQueue) -> None:
    while (message := work.get()) is not None:
        results.put(examine(*message))


class _Collector(threading.Thread):
    """Takes the results as they come, until a None.

    A thread, because a pipe into which a worker was killed in the middle of a message keeps its
    reader for ever: the main thread must stay free to notice the dead worker.
    """

    def __init__(self, queue: MessageQueue) -> None:
        super().__init__(name="collector", daemon=True)
        self.results: list[Result] = []
        self._queue = queue
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            while (result := self._queue.get()) is not None:
                self.results.append(result)
        except Exception as error:
            self._error = error

    def check(self) -> int:
        """The number of results so far; what made the thread give up is raised here."""
        if self._error is not None:
            raise CommandError(f"the results cannot be received: {self._error!r}") from self._error
        return len(self.results)
