"""Crews: processes that take turns at a shared object while they are stopped, let go on, killed and
replaced, with an account of what they do in memory that is not shmipc's.

A turn says that it is inside after it has got in, and that it is out before it lets go.  So who is
inside by this account is so in truth, unless he is dead; and who is about to be killed is marked
before, so that nobody takes him for one who lives.
"""

from __future__ import annotations

import os
import random
import time
import traceback
from collections.abc import Callable
from functools import partial

from helpers import Forked, Words, in_thread

PAUSING, ENDING, STATE = 0, 1, 2
INSIDE, DOOMED, TURNS, PAUSED = range(4)  # of each member
PER_MEMBER = 4
FIRST = 8  # the word of member 0; those before it are the crew's, from STATE on the test's


class Member:
    """One process of a crew, as its turns see it."""

    def __init__(self, words: Words, people: int, number: int, seed: int) -> None:
        self.words = words
        self.number = number
        self.rng = random.Random(seed)
        self._people = people
        self._visits = 0
        self._first = FIRST + number * PER_MEMBER

    def enter(self, how: int = 1) -> None:
        self._visits += 1
        self.words[self._first + INSIDE] = self._visits << 2 | how

    def leave(self) -> None:
        self.words[self._first + INSIDE] = 0

    def inside(self) -> list[int]:
        """How each one is inside who is, all at one moment, and is not about to die."""
        firsts = [FIRST + number * PER_MEMBER for number in range(self._people)]
        visits = [(first, self.words[first + INSIDE]) for first in firsts]
        # This is the moment: who is inside before and after it is so now.
        alive = [(first, visit) for first, visit in visits if not self.words[first + DOOMED]]
        return [
            visit & 3 for first, visit in alive if visit and visit == self.words[first + INSIDE]
        ]

    def linger(self) -> None:
        """For no time, or for a moment, or asleep."""
        pause = self.rng.random()
        if pause < 0.1:
            time.sleep(pause / 100)

    def work(self, turn: Callable[[Member], bool]) -> int:
        """Turn after turn, until it is told to end; how many got somewhere."""
        turns = 0
        while not self.words[ENDING]:
            if self.words[PAUSING]:
                self.words[self._first + PAUSED] = 1
                time.sleep(0.001)
                continue
            self.words[self._first + PAUSED] = 0
            turns += turn(self)
            self.words[self._first + TURNS] = turns
        return turns


class Crew:
    """`people` processes of so many `threads`, each of them a member that takes turns.  A turn
    answers whether it got somewhere, and fails if it sees what must not be."""

    def __init__(
        self, turn: Callable[[Member], bool], people: int, seed: int = 0, threads: int = 1
    ) -> None:
        self.turn, self.people, self.threads = turn, people, threads
        self.words = Words(FIRST + people * threads * PER_MEMBER)
        self.rng = random.Random(seed)
        self.kills = 0
        self.stopped: set[int] = set()
        self.processes = [self._fork(number) for number in range(people)]

    def _members_of(self, process: int) -> range:
        return range(process * self.threads, (process + 1) * self.threads)

    def _fork(self, process: int) -> Forked:
        seed = self.rng.randrange(1 << 30)
        members = [
            Member(self.words, self.people * self.threads, number, seed + number)
            for number in self._members_of(process)
        ]
        if len(members) == 1:
            return Forked(members[0].work, self.turn)
        return Forked(self._work_in_threads, members)

    def _work_in_threads(self, members: list[Member]) -> list[int]:
        return [thread() for thread in [in_thread(partial(self._work, m)) for m in members]]

    def _work(self, member: Member) -> int:
        try:
            return member.work(self.turn)
        except BaseException:  # the other threads may wait for ever
            traceback.print_exc()
            os._exit(1)

    def _all(self) -> range:
        return range(self.people * self.threads)

    def word_of(self, number: int, which: int) -> int:
        return self.words[FIRST + number * PER_MEMBER + which]

    # --- events -----------------------------------------------------------------------------

    def kill(self, process: int) -> None:
        """Wherever it is, also where it stands stopped."""
        firsts = [FIRST + number * PER_MEMBER for number in self._members_of(process)]
        for first in firsts:
            self.words[first + DOOMED] = 1
        self.processes[process].kill()
        for first in firsts:
            for which in (INSIDE, TURNS, PAUSED, DOOMED):
                self.words[first + which] = 0
        self.stopped.discard(process)
        self.kills += 1

    def start(self, number: int) -> None:
        """In the place of one that was killed."""
        self.processes[number] = self._fork(number)

    def replace(self, number: int) -> None:
        """Kills it, and another comes in its place."""
        self.kill(number)
        self.start(number)

    def stop(self, number: int) -> None:
        if number not in self.stopped:
            self.processes[number].stop()
            self.stopped.add(number)

    def cont(self, number: int) -> None:
        self.processes[number].cont()
        self.stopped.discard(number)

    def cont_all(self) -> None:
        for number in list(self.stopped):
            self.cont(number)

    def rest(self) -> None:
        """For a moment, in which anything may happen."""
        time.sleep(self.rng.random() / 100)

    def play(self, events: int, **weights: int) -> None:
        """So many events at random members and moments: stop, cont, replace, rest."""
        weights = {"stop": 3, "cont": 3, "replace": 2, "rest": 2} | weights
        happens = {"stop": self.stop, "cont": self.cont, "replace": self.replace}
        for name in self.rng.choices(list(weights), list(weights.values()), k=events):
            happens.get(name, lambda number: None)(self.rng.randrange(self.people))
            self.rest()
            self.look()
        self.cont_all()

    # --- looking ----------------------------------------------------------------------------

    def look(self, without: int | None = None) -> None:
        """Raises what a member has failed with."""
        for number, member in enumerate(self.processes):
            if number == without:
                continue
            if os.waitid(os.P_PID, member.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                raise AssertionError(f"member {number} has ended: {member.result()}")

    def until(self, condition: Callable[[], bool], without: int | None = None) -> None:
        """`without` is one who was killed."""
        while not condition():
            self.look(without)
            time.sleep(0.001)

    def turns(self) -> list[int]:
        """How often each has got somewhere."""
        return [self.word_of(number, TURNS) for number in self._all()]

    def everybody_advances(self, turns: int = 3) -> None:
        """Returns when all have got somewhere so many times more."""
        wanted = [done + turns for done in self.turns()]
        self.until(lambda: all(map(int.__ge__, self.turns(), wanted)))

    def pause(self) -> None:
        """Returns when all have come to the end of their turns."""
        self.words[PAUSING] = 1
        self.until(lambda: all(self.word_of(n, PAUSED) for n in self._all()))

    def go_on(self) -> None:
        self.words[PAUSING] = 0
        self.until(lambda: not any(self.word_of(n, PAUSED) for n in self._all()))

    def end(self) -> None:
        """Says that the turn that runs is the last."""
        self.words[ENDING] = 1

    def finish(self) -> None:
        """Returns when all have ended in order."""
        self.end()
        for member in self.processes:
            member.result()

    def disband(self) -> None:
        """Kills them all."""
        for number in range(self.people):
            self.kill(number)
