"""The processes of one measurement: forked together, going in step, under a watchdog."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from multiprocessing import connection
from types import TracebackType
from typing import Any, NamedTuple, Self

FORK = multiprocessing.get_context("fork")

GRACE = 2.0
"""Seconds that a process which has answered may take to leave."""

PATIENCE = 15.0
"""Seconds that every measurement may take, on top of ten times what it is meant to."""

FIRST_BURST = 8
FASTEST_GROWTH = 16
"""Turns of the first burst, and the most by which the next may be longer."""

WARM_UP_SHARE = 0.1
"""Of the measured time; a shorter burst still warms up, and says how long the next one may be."""

PR_SET_PDEATHSIG = 1

Task = Callable[[], Any]
"""What one process does; its return value is pickled back to the parent."""
Burst = Callable[[int], object]

clock = time.perf_counter
"""Seconds; CLOCK_MONOTONIC, so that two processes may compare what they read."""


class HungError(Exception):
    """The watchdog's time ran out before every process had answered."""


class FailedError(Exception):
    """A process raised, or died."""


def run(tasks: Sequence[Task], seconds: float) -> list[Any]:
    """Run each task in a process of its own; return their answers in order.

    `seconds` is what the measurement is meant to take. Raises HungError when it takes out of all
    proportion longer, and FailedError when a task raises or its process dies. No process outlives
    the call.
    """
    with Crew(tasks) as crew:
        return crew.answers(PATIENCE + 10 * seconds)


def apart(*sides: Task) -> list[Task]:
    """Pin the last side to one half of the cores, the others to the other half.

    Left to itself, the scheduler at times puts two that wake each other on one core. That helps a
    channel which sleeps and ruins one which spins, and changes from round to round.
    """
    first, second = halves()
    return [
        *(partial(pinned, first, side) for side in sides[:-1]),
        partial(pinned, second, sides[-1]),
    ]


def halves() -> tuple[Sequence[int], Sequence[int]]:
    """Return the cores that may be used in two halves; both halves are the only core there is."""
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    return cores[:middle] or cores, cores[middle:]


def pinned(cores: Iterable[int], task: Task) -> Any:
    """Do the task on these cores."""
    os.sched_setaffinity(0, cores)
    return task()


class Crew:
    """Processes that were started together; leaving the `with` ends and reaps them all."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._workers: list[_Worker] = []
        try:
            for task in tasks:
                self._workers.append(_Worker(task))
        except BaseException:
            self._end(at_once=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(at_once=error is not None)

    def answers(self, limit: float) -> list[Any]:
        """Return what the tasks returned, in order; raise as `run` does."""
        deadline = time.monotonic() + limit
        waiting: dict[Any, int] = {w.source: n for n, w in enumerate(self._workers)}
        answers: dict[int, Any] = {}
        while waiting:
            ready = connection.wait(list(waiting), max(0.0, deadline - time.monotonic()))
            if not ready:
                raise HungError(f"no answer within {limit:g} s")
            for source in ready:
                number = waiting.pop(source)
                answers[number] = self._workers[number].answer()
        return [answers[number] for number in range(len(self._workers))]

    def _end(self, at_once: bool) -> None:
        for worker in self._workers:
            worker.end(at_once)


class _Worker:
    """One process, and the pipe through which it answers."""

    def __init__(self, task: Task) -> None:
        self.source, sink = FORK.Pipe(duplex=False)
        self._process = FORK.Process(target=_serve, args=(task, sink, os.getpid()), daemon=True)
        self._process.start()
        sink.close()  # so that its death is an end of file, which no later child holds back

    def answer(self) -> Any:
        try:
            error, value = self.source.recv()
        except EOFError:
            self._process.join()
            raise FailedError(f"died, exit code {self._process.exitcode}") from None
        if error is not None:
            raise FailedError(error)
        return value

    def end(self, at_once: bool) -> None:
        self._process.join(0 if at_once else GRACE)
        self._process.kill()
        self._process.join()
        self._process.close()
        self.source.close()


def _serve(task: Task, sink: Any, parent: int) -> None:
    """Send (error, answer) of the task; runs in the child."""
    _die_with(parent)
    gc.disable()  # as timeit does
    try:
        answer = task()
    except Exception as error:
        sink.send((f"{type(error).__name__}: {error}", None))
    else:
        sink.send((None, answer))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process with its parent, to whom Ctrl-C is left.

    A peer that waits in C hears no other signal, and one that polls would do so for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Lap(NamedTuple):
    """One process's part in the measured burst: how many turns, from when to when."""

    turns: int
    start: float
    end: float


class Lockstep:
    """A gate through which the processes of one measurement go together, burst after burst.

    The bursts grow until one has warmed everything up; the next is measured. One process leads: it
    judges how long the bursts take. All stay until the measured burst is over everywhere, because a
    process that leaves may take with it what it has not yet delivered.
    """

    def __init__(self, processes: int, seconds: float) -> None:
        self._gate = FORK.Barrier(processes)
        self._turns = FORK.RawValue(ctypes.c_int64, FIRST_BURST)
        self._measured = FORK.RawValue(ctypes.c_bool, False)
        self._seconds = seconds

    def meet(self) -> None:
        """Wait until all are here."""
        self._gate.wait()

    def run(self, burst: Burst, leads: bool = False) -> Lap:
        """Warm up, then return the measured lap. `burst(n)` takes n turns."""
        while True:
            turns, measured = self._turns.value, self._measured.value
            self.meet()
            start = clock()
            burst(turns)
            lap = Lap(turns, start, clock())
            if leads and not measured:
                self._plan(lap)
            self.meet()
            if measured:
                return lap

    def _plan(self, lap: Lap) -> None:
        """Set the next burst by what this one took. The others read it after the gate."""
        took = max(lap.end - lap.start, 1e-6)
        fitting = int(lap.turns * self._seconds / took)
        self._measured.value = took >= self._seconds * WARM_UP_SHARE
        self._turns.value = max(1, min(fitting, lap.turns * FASTEST_GROWTH))


def elapsed(laps: Sequence[Lap]) -> float:
    """Return the seconds from the first process's start to the last one's end."""
    return max(lap.end for lap in laps) - min(lap.start for lap in laps)
