"""How fast do two processes take a lock in turn, count together, and hand a turn to each other?

Four questions: a lock that nobody else wants, a counter under a lock that two want, a turn that two
processes hand back and forth while both are awake, and the same while both sleep in between.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import operator
import os
import resource
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from functools import cache, partial
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.harness import Case, Question, main
from benchmarks.processes import FORK, Lap, Lockstep, apart, elapsed, halves, pinned, run
from benchmarks.report import Bar, Column, Unit

ROUNDS = 11
CHECKED_TURNS = 100

Loop = Callable[[int], None]
"""Takes so many turns."""


def shared_numbers() -> memoryview:
    """Return memory that all processes forked from now on see, as numbers of 64 bits."""
    return memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")


def ours(kind: str, *arguments: Any, **options: Any) -> Any:
    """Make an object of shmipc; ImportError if this shmipc has no such kind."""
    module = import_module("shmipc")
    if not hasattr(module, kind):
        raise ImportError(f"this shmipc has no {kind}")
    return getattr(module, kind)(*arguments, **options)


def posix_semaphore(value: int) -> Any:
    """Make a semaphore of posix_ipc; its name is gone at once."""
    module = import_module("posix_ipc")
    semaphore = module.Semaphore(None, module.O_CREX, initial_value=value)
    semaphore.unlink()
    return semaphore


# --- locks ----------------------------------------------------------------------------------------


class Counter(ABC):
    """A number that several processes increment."""

    name: ClassVar[str]

    def __init__(self) -> None:
        """Make it, in the parent."""
        self.make()

    @abstractmethod
    def make(self) -> None:
        """Create what the processes share."""

    @abstractmethod
    def increment(self, turns: int) -> None:
        """Add 1, so many times."""

    @abstractmethod
    def watch(self, turns: int, me: int) -> int:
        """Add 1, so many times; return how often the other process had been there in between."""

    @abstractmethod
    def total(self) -> int:
        """Return the number."""

    def close(self) -> None:  # noqa: B027 (most let go of everything when they are collected)
        """Let go of everything."""


class Mutex(Counter):
    """One way to lock, and a number in bare shared memory that it protects.

    The loops are the same for all.
    """

    def __init__(self) -> None:
        self.number = shared_numbers()
        super().__init__()

    lock: Any

    def pair(self, turns: int) -> None:
        """Acquire and release."""
        acquire, release = self.lock.acquire, self.lock.release
        for _ in repeat(None, turns):
            acquire()
            release()

    def block(self, turns: int) -> None:
        """Enter and leave a `with`."""
        lock = self.lock
        for _ in repeat(None, turns):
            with lock:
                pass

    def increment(self, turns: int) -> None:
        acquire, release, number = self.lock.acquire, self.lock.release, self.number
        for _ in repeat(None, turns):
            acquire()
            number[0] += 1
            release()

    def watch(self, turns: int, me: int) -> int:
        acquire, release, number, met = self.lock.acquire, self.lock.release, self.number, 0
        for _ in repeat(None, turns):
            acquire()
            if number[1] != me:
                number[1] = me
                met += 1
            number[0] += 1
            release()
        return met

    def total(self) -> int:
        return self.number[0]


class Lock(Mutex):
    """The default: a word in shared memory that says whose it is."""

    name = "shmipc.Lock"

    def make(self) -> None:
        self.lock = ours(self.name.removeprefix("shmipc."))

    def close(self) -> None:
        self.lock.close()


class RLock(Lock):
    """Which its thread may take again."""

    name = "shmipc.RLock"


class SemaphoreLock(Lock):
    """Whose waiters sleep on a POSIX semaphore."""

    name = "shmipc.SemaphoreLock"


class StandardLock(Mutex):
    """A POSIX semaphore, of which a process that dies takes the unit with it."""

    name = "mp.Lock"

    def make(self) -> None:
        self.lock = FORK.Lock()


class StandardRLock(Mutex):
    """The same, with a count of its own for the thread that has it."""

    name = "mp.RLock"

    def make(self) -> None:
        self.lock = FORK.RLock()


class PosixSemaphore(Mutex):
    """The same semaphore, from posix_ipc."""

    name = "posix_ipc.Semaphore"

    def make(self) -> None:
        self.lock = posix_semaphore(1)

    def close(self) -> None:
        self.lock.close()


class LockedFile:
    """A file without a name, locked as a whole."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
        self.acquire = partial(fcntl.lockf, self.file, fcntl.LOCK_EX)
        self.release = partial(fcntl.lockf, self.file, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RecordLock(Mutex):
    """A lock of the kernel's, the only peer that a dead process lets go of."""

    name = "fcntl.lockf"

    def make(self) -> None:
        self.lock = LockedFile()

    def close(self) -> None:
        self.lock.file.close()


class AtomicNumber(Counter):
    """A number that needs no lock."""

    name = "shmipc.AtomicInt64"

    def make(self) -> None:
        self.number = ours("AtomicInt64")

    def increment(self, turns: int) -> None:
        add = self.number.add
        for _ in repeat(None, turns):
            add()

    def watch(self, turns: int, me: int) -> int:
        add, expected, met = self.number.add, 0, 0
        for _ in repeat(None, turns):
            found = add()
            if found != expected:
                met += 1
            expected = found + 1
        return met

    def total(self) -> int:
        return int(self.number.load())

    def close(self) -> None:
        self.number.close()


MUTEXES: tuple[type[Mutex], ...] = (
    Lock,
    RLock,
    SemaphoreLock,
    StandardLock,
    StandardRLock,
    PosixSemaphore,
    RecordLock,
)
COUNTERS: tuple[type[Counter], ...] = (*MUTEXES[:3], AtomicNumber, *MUTEXES[3:])


def time_alone(loop: Callable[[Any, int], None], kind: type[Mutex], seconds: float) -> tuple[float]:
    """Return the nanoseconds of one turn of the loop, in a process that nobody disturbs."""
    step = Lockstep(1, seconds)
    with closing(kind()) as mutex:
        task = partial(step.run, partial(loop, mutex), leads=True)
        (lap,) = run([partial(pinned, halves()[0], task)], seconds)
    return ((lap.end - lap.start) / lap.turns * 1e9,)


def count(counter: Counter, watches: bool, step: Lockstep, me: int) -> tuple[Lap, int, int]:
    """Be one of the two; return also how often it met the other, and all its increments."""
    met, made = 0, 0

    def burst(turns: int) -> None:
        nonlocal met, made
        if watches:
            met = counter.watch(turns, me)
        else:
            counter.increment(turns)
        made += turns

    return step.run(burst, leads=me == 1), met, made


def together(kind: type[Counter], watches: bool, seconds: float) -> tuple[list[Lap], int]:
    """Have two processes count; return their laps, and how often the turn changed.

    Raise ValueError if an increment got lost.
    """
    step = Lockstep(2, seconds)
    with closing(kind()) as counter:
        tasks = apart(*(partial(count, counter, watches, step, me) for me in (1, 2)))
        laps, met, made = zip(*run(tasks, seconds), strict=True)
        total = counter.total()
    if total != sum(made):
        raise ValueError(f"{sum(made)} increments made {total}")
    return list(laps), sum(met)


def time_together(kind: type[Counter], seconds: float) -> tuple[float]:
    """Return the increments per second of two processes."""
    laps, _ = together(kind, False, seconds)
    return (sum(lap.turns for lap in laps) / elapsed(laps),)


def run_length(kind: type[Counter], seconds: float) -> tuple[float]:
    """Return how many increments one process makes before it is the other one's turn."""
    laps, met = together(kind, True, seconds)
    return (sum(lap.turns for lap in laps) / max(met, 1),)


# --- hand-over ------------------------------------------------------------------------------------


class Relay(ABC):
    """One way to hand a turn to another process and to wait until it comes back.

    The two loops are all that is timed; they call what they need by names bound before.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        """Make it, in the parent."""
        self.make()

    @abstractmethod
    def make(self) -> None:
        """Create what the two share."""

    @abstractmethod
    def lead(self, turns: int) -> None:
        """Hand the turn over and wait for it, so many times."""

    @abstractmethod
    def follow(self, turns: int) -> None:
        """Wait for the turn and hand it back, so many times."""

    def close(self) -> None:  # noqa: B027 (most let go of everything when they are collected)
        """Let go of everything."""


class Pair(Relay):
    """Two of a kind: one for the way there, one for the way back."""

    there: Any
    back: Any

    def make(self) -> None:
        self.there, self.back = self.new(), self.new()

    @abstractmethod
    def new(self) -> Any:
        """Make one."""


class Own(Relay):
    """What shmipc's own have in common; those with `spin` 0 do not wait awake."""

    kind: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def new(self) -> Any:
        return ours(self.kind, **self.options)


class Events(Pair):
    """An event each way: whoever has waited for it clears it."""

    def lead(self, turns: int) -> None:
        hand_over, wait, clear = self.there.set, self.back.wait, self.back.clear
        for _ in repeat(None, turns):
            hand_over()
            wait()
            clear()

    def follow(self, turns: int) -> None:
        hand_over, wait, clear = self.back.set, self.there.wait, self.there.clear
        for _ in repeat(None, turns):
            wait()
            clear()
            hand_over()


class Tokens(Pair):
    """Something each way that one process releases and the other acquires."""

    def lead(self, turns: int) -> None:
        hand_over, wait = self.there.release, self.back.acquire
        for _ in repeat(None, turns):
            hand_over()
            wait()

    def follow(self, turns: int) -> None:
        hand_over, wait = self.back.release, self.there.acquire
        for _ in repeat(None, turns):
            wait()
            hand_over()


class LentLocks(Tokens):
    """Locks that are held at first, and released by the one who did not take them."""

    def make(self) -> None:
        super().make()
        self.there.acquire()
        self.back.acquire()


class Conditions(Relay):
    """A condition, and a number in bare shared memory that says whose turn it is."""

    condition: Any

    def make(self) -> None:
        self.turn = shared_numbers()
        self.condition = self.new()

    @abstractmethod
    def new(self) -> Any:
        """Make one."""

    def _play(self, me: int, turns: int) -> None:
        condition, turn, other = self.condition, self.turn, 1 - me
        wait, notify = condition.wait, condition.notify
        for _ in repeat(None, turns):
            with condition:
                while turn[0] != me:
                    wait()
                turn[0] = other
                notify()

    def lead(self, turns: int) -> None:
        self._play(0, turns)

    def follow(self, turns: int) -> None:
        self._play(1, turns)


class Barriers(Relay):
    """Two meetings at a barrier are a round trip: each waits for the other twice."""

    barrier: Any

    def make(self) -> None:
        self.barrier = self.new()

    @abstractmethod
    def new(self) -> Any:
        """Make one."""

    def lead(self, turns: int) -> None:
        wait = self.barrier.wait
        for _ in repeat(None, turns):
            wait()
            wait()

    def follow(self, turns: int) -> None:
        self.lead(turns)


class OwnEvents(Own, Events):
    """`shmipc.Event`."""

    kind, name = "Event", "shmipc.Event"


class OwnConditions(Own, Conditions):
    """`shmipc.Condition` with a lock of its own."""

    kind, name = "Condition", "shmipc.Condition"


class OwnSemaphores(Own, Tokens):
    """`shmipc.Semaphore`."""

    kind, name = "Semaphore", "shmipc.Semaphore"
    options: ClassVar[dict[str, Any]] = {"value": 0}


class OwnLocks(Own, LentLocks):
    """`shmipc.Lock`."""

    kind, name = "Lock", "shmipc.Lock"


class OwnBarriers(Own, Barriers):
    """`shmipc.Barrier`."""

    kind, name = "Barrier", "shmipc.Barrier"
    options: ClassVar[dict[str, Any]] = {"parties": 2}


class OwnNumber(Own):
    """`shmipc.AtomicInt64`: odd when it is the follower's turn."""

    kind, name = "AtomicInt64", "shmipc.AtomicInt64"

    def make(self) -> None:
        self.number = self.new()
        self.seen = 0  # the follower's

    def lead(self, turns: int) -> None:
        add, wait = self.number.add, self.number.wait
        for _ in repeat(None, turns):
            wait(add())

    def follow(self, turns: int) -> None:
        add, wait, seen = self.number.add, self.number.wait, self.seen
        for _ in repeat(None, turns):
            wait(seen)
            seen = add()
        self.seen = seen


class SleepingEvents(OwnEvents):
    """`shmipc.Event`, without spinning."""

    name = "shmipc.Event, spin=0"
    options: ClassVar[dict[str, Any]] = {"spin": 0}


class SleepingConditions(OwnConditions):
    """`shmipc.Condition`, without spinning."""

    name = "shmipc.Condition, spin=0"
    options: ClassVar[dict[str, Any]] = {"spin": 0}


class SleepingSemaphores(OwnSemaphores):
    """`shmipc.Semaphore`, without spinning."""

    name = "shmipc.Semaphore, spin=0"
    options: ClassVar[dict[str, Any]] = {"value": 0, "spin": 0}


class SleepingLocks(OwnLocks):
    """`shmipc.Lock`, without spinning."""

    name = "shmipc.Lock, spin=0"
    options: ClassVar[dict[str, Any]] = {"spin": 0}


class SleepingNumber(OwnNumber):
    """`shmipc.AtomicInt64`, without spinning."""

    name = "shmipc.AtomicInt64, spin=0"
    options: ClassVar[dict[str, Any]] = {"spin": 0}


class StandardEvents(Events):
    """`multiprocessing.Event`: a condition, a lock and five semaphores."""

    name = "mp.Event"

    def new(self) -> Any:
        return FORK.Event()


class StandardConditions(Conditions):
    """`multiprocessing.Condition`: a lock and three semaphores."""

    name = "mp.Condition"

    def new(self) -> Any:
        return FORK.Condition()


class StandardSemaphores(Tokens):
    """`multiprocessing.Semaphore`: a POSIX semaphore."""

    name = "mp.Semaphore"

    def new(self) -> Any:
        return FORK.Semaphore(0)


class StandardLocks(LentLocks):
    """`multiprocessing.Lock`: a POSIX semaphore that counts to 1."""

    name = "mp.Lock"

    def new(self) -> Any:
        return FORK.Lock()


class StandardBarriers(Barriers):
    """`multiprocessing.Barrier`: a condition and a number."""

    name = "mp.Barrier"

    def new(self) -> Any:
        return FORK.Barrier(2)


class PosixSemaphores(Tokens):
    """posix_ipc's semaphore."""

    name = "posix_ipc.Semaphore"

    def new(self) -> Any:
        return posix_semaphore(0)

    def close(self) -> None:
        self.there.close()
        self.back.close()


class EventDescriptors(Pair):
    """Linux's eventfd: a number in the kernel, read and written."""

    name = "os.eventfd"

    def new(self) -> Any:
        return os.eventfd(0)

    def lead(self, turns: int) -> None:
        hand_over, wait = (
            partial(os.eventfd_write, self.there, 1),
            partial(os.eventfd_read, self.back),
        )
        for _ in repeat(None, turns):
            hand_over()
            wait()

    def follow(self, turns: int) -> None:
        hand_over, wait = (
            partial(os.eventfd_write, self.back, 1),
            partial(os.eventfd_read, self.there),
        )
        for _ in repeat(None, turns):
            wait()
            hand_over()

    def close(self) -> None:
        os.close(self.there)
        os.close(self.back)


@cache
def compiled() -> ctypes.CDLL:
    """Return futex_ping_pong.c as a library; ImportError if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise ImportError("there is no C compiler, cc, to make it")
    source = Path(__file__).with_name("futex_ping_pong.c")
    with tempfile.TemporaryDirectory(prefix="bench") as directory:
        library = Path(directory, "futex_ping_pong.so")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        return ctypes.CDLL(str(library))  # it stays loaded when the file is gone


class BareFutex(Relay):
    """Two futexes from C, with no Python between a wake and the next sleep."""

    name = "bare futex, in C"

    def make(self) -> None:
        self.library = compiled()
        self.memory = (ctypes.c_char * mmap.PAGESIZE).from_buffer(mmap.mmap(-1, mmap.PAGESIZE))

    def lead(self, turns: int) -> None:
        self.library.lead(self.memory, ctypes.c_long(turns))

    def follow(self, turns: int) -> None:
        self.library.follow(self.memory, ctypes.c_long(turns))


RELAYS: tuple[type[Relay], ...] = (
    OwnEvents,
    OwnConditions,
    OwnSemaphores,
    OwnLocks,
    OwnBarriers,
    OwnNumber,
    StandardEvents,
    StandardConditions,
    StandardSemaphores,
    StandardLocks,
    StandardBarriers,
    PosixSemaphores,
    EventDescriptors,
)
"""The peers never spin: they are awake only as long as the other one's turn is short."""

SLEEPERS: tuple[type[Relay], ...] = (
    SleepingEvents,
    SleepingConditions,
    SleepingSemaphores,
    SleepingLocks,
    SleepingNumber,
    StandardEvents,
    StandardConditions,
    StandardSemaphores,
    PosixSemaphores,
    EventDescriptors,
    BareFutex,
)


def check_order(loop: Loop, progress: memoryview, me: int) -> None:
    """Take some turns one by one; raise ValueError if the other one lags by more than a turn.

    A wait that returns too early would make a fast hand-over that hands nothing over.
    """
    for turn in range(1, CHECKED_TURNS + 1):
        progress[me] = turn
        loop(1)
        if progress[1 - me] < turn - 1:
            raise ValueError(f"in turn {turn}, the other process was in turn {progress[1 - me]}")


def take_turns(loop: Loop, progress: memoryview, step: Lockstep, me: int) -> tuple[float, float]:
    """Be the leader, 0, or the follower, 1.

    Return the microseconds of one round trip, and how often this process slept in it.
    """
    sleeps = 0.0

    def burst(turns: int) -> None:
        nonlocal sleeps
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        loop(turns)
        sleeps = (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before) / turns

    step.meet()
    check_order(loop, progress, me)
    lap = step.run(burst, leads=me == 0)
    return (lap.end - lap.start) / lap.turns * 1e6, sleeps


def time_hand_over(kind: type[Relay], seconds: float) -> tuple[float, float]:
    """Return the microseconds of a round trip, and the sleeps of both in it."""
    step = Lockstep(2, seconds)
    with closing(kind()) as relay:
        progress = shared_numbers()
        leader = partial(take_turns, relay.lead, progress, step, 0)
        follower = partial(take_turns, relay.follow, progress, step, 1)
        (took, sleeps), (_, more) = run(apart(leader, follower), seconds)
    return took, sleeps + more


# --- the questions --------------------------------------------------------------------------------

PAIR = Column("acquire, release", Unit.NANOSECONDS)
BLOCK = Column("with", Unit.NANOSECONDS)
INCREMENTS = Column("increments", Unit.RATE)
IN_A_ROW = Column("in a row", Unit.COUNT)
ROUND_TRIP = Column("round trip", Unit.MICROSECONDS)
SLEEPS = Column("sleeps", Unit.COUNT)

ALONE = Question(
    title="A lock that nobody else wants",
    channels=MUTEXES,
    cases=(
        Case((PAIR,), partial(time_alone, Mutex.pair)),
        Case((BLOCK,), partial(time_alone, Mutex.block)),
    ),
    rounds=ROUNDS,
    seconds=0.1,
    standard=StandardLock.name,
    bars=tuple(
        Bar(
            f"{words} of {Lock.name} takes {{}} times {StandardLock.name}'s time",
            value=Lock.name,
            base=StandardLock.name,
            column=column,
            holds=operator.le,
            limit=1,
        )
        for words, column in (("A pair", PAIR), ("A with", BLOCK))
    ),
)

TOGETHER = Question(
    title="Two processes and one counter",
    channels=COUNTERS,
    cases=(Case((INCREMENTS,), time_together), Case((IN_A_ROW,), run_length)),
    rounds=ROUNDS,
    seconds=0.2,
    bars=tuple(
        Bar(
            f"{kind.name} counts {{}} times as fast as the best of the peers",
            value=kind.name,
            base=None,
            column=INCREMENTS,
            holds=operator.ge,
            limit=1,
        )
        for kind in (Lock, AtomicNumber)
    ),
)

AWAKE = Question(
    title="A turn there and back, both sides awake",
    channels=RELAYS,
    cases=(Case((ROUND_TRIP, SLEEPS), time_hand_over),),
    rounds=ROUNDS,
    seconds=0.1,
    bars=tuple(
        Bar(
            f"{own.name} is {{}} times as fast as {standard.name}",
            value=standard.name,
            base=own.name,
            column=ROUND_TRIP,
            holds=operator.ge,
            limit=5,
        )
        for own, standard in ((OwnEvents, StandardEvents), (OwnConditions, StandardConditions))
    ),
)

PARKED = Question(
    title="A turn there and back, both sides asleep in between",
    channels=SLEEPERS,
    cases=(Case((ROUND_TRIP, SLEEPS), time_hand_over),),
    rounds=ROUNDS,
    seconds=0.1,
    standard=BareFutex.name,
    bars=tuple(
        Bar(
            f"{kind.name} takes {{}} times the bare futex's time",
            value=kind.name,
            base=BareFutex.name,
            column=ROUND_TRIP,
            holds=operator.le,
            limit=1.3,
        )
        for kind in SLEEPERS[:4]
    ),
)

QUESTIONS = (ALONE, TOGETHER, AWAKE, PARKED)

if __name__ == "__main__":
    main(*QUESTIONS)
