"""How much CPU does a consumer use while nothing comes?"""

from __future__ import annotations

import resource
import time
from contextlib import closing
from functools import partial

from benchmarks.harness import Case, Question, main
from benchmarks.peers import SLEEPERS, Channel
from benchmarks.processes import Lockstep, apart, run
from benchmarks.report import Column, Unit

MESSAGE = bytes(64)


def fall_silent(channel: Channel, step: Lockstep, seconds: float) -> None:
    """Put one message to warm up, and another after the silence."""
    put = channel.sender()
    step.meet()
    put(MESSAGE)
    step.meet()
    time.sleep(seconds)
    put(MESSAGE)
    step.meet()


def wait_in_silence(channel: Channel, step: Lockstep) -> tuple[float, float]:
    """Return what one wait cost: milliseconds of CPU, all threads, and how often it slept."""
    get = channel.receiver()
    step.meet()
    get()
    step.meet()
    before = resource.getrusage(resource.RUSAGE_SELF)
    get()
    after = resource.getrusage(resource.RUSAGE_SELF)
    step.meet()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu * 1e3, float(after.ru_nvcsw - before.ru_nvcsw)


def measure(kind: type[Channel], seconds: float) -> tuple[float, float]:
    """Return the CPU milliseconds and the sleeps of a consumer that waits for `seconds`."""
    step = Lockstep(2, seconds)
    with closing(kind(len(MESSAGE))) as channel:
        talker = partial(fall_silent, channel, step, seconds)
        waiter = partial(wait_in_silence, channel, step)
        result: tuple[float, float]
        _, result = run(apart(talker, waiter), seconds)
    return result


QUESTION = Question(
    title="A parked consumer",
    channels=SLEEPERS,
    cases=(Case((Column("CPU", Unit.MILLISECONDS), Column("sleeps", Unit.COUNT)), measure),),
    rounds=1,
    seconds=10.0,
    quick=0.2,
)

if __name__ == "__main__":
    main(QUESTION)
