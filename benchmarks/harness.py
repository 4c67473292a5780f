"""What the questions have in common: the rounds and the command line."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Protocol

from rich.console import Console
from rich.progress import Progress

from benchmarks import report
from benchmarks.peers import TooLargeError
from benchmarks.processes import HungError
from benchmarks.report import TOO_LARGE, Bar, Column, Results

Measure = Callable[[Any, float], Sequence[float]]
"""Takes a kind of channel and the seconds to measure; returns one value for each column."""


class Named(Protocol):
    """What a question is put to: most are channels, all have a name for the table."""

    name: ClassVar[str]


class Askable(Protocol):
    """A question, or what poses one once it has prepared for it."""

    def ask(self, options: argparse.Namespace, console: Console) -> Results:
        """Measure as the command line wants it."""


@dataclass(frozen=True)
class Case:
    """One way to measure every channel, and the columns that it fills."""

    columns: tuple[Column, ...]
    measure: Measure


@dataclass(frozen=True)
class Question:
    """What one benchmark asks: of whom, in which cases, how often and for how long.

    `quick` is what `seconds` becomes in a smoke run; `standard` is the channel that ratios are to,
    if not the best of the peers. Whether the bars are met stands below the table.
    """

    title: str
    channels: tuple[type[Named], ...]
    cases: tuple[Case, ...]
    rounds: int = 5
    seconds: float = 0.4
    quick: float = 0.02
    standard: str | None = None
    bars: tuple[Bar, ...] = ()

    def ask(self, options: argparse.Namespace, console: Console) -> Results:
        """Measure every channel, as the command line wants it."""
        return ask(self.tuned(options), console)

    def tuned(self, options: argparse.Namespace) -> Question:
        """Return the question as the command line wants it."""
        rounds, seconds = (1, self.quick) if options.quick else (self.rounds, self.seconds)
        return replace(
            self,
            channels=tuple(c for c in self.channels if _is_wanted(c.name, options.only)),
            rounds=options.rounds or rounds,
            seconds=options.seconds or seconds,
        )


def _is_wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(part.casefold() in name.casefold() for part in only)


# --- the rounds -----------------------------------------------------------------------------------


def ask(question: Question, console: Console) -> Results:
    """Measure every channel once a round, one after the other, so that all see the same machine."""
    results = Results(
        question.title,
        [kind.name for kind in question.channels],
        [column for case in question.cases for column in case.columns],
        question.standard,
    )
    turns = [(case, kind) for case in question.cases for kind in question.channels]
    # Without a thread of its own for the display: the measurements fork.
    with Progress(console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task(question.title, total=question.rounds * len(turns))
        for _ in range(question.rounds):
            for case, kind in turns:
                progress.update(task, description=f"{question.title}: {kind.name}", refresh=True)
                _take(case, kind, question.seconds, results)
                progress.advance(task)
    results.notes += [bar.sentence(results) for bar in question.bars]
    return results


def _take(case: Case, kind: type[Named], seconds: float, results: Results) -> None:
    """Take one measurement; a channel that cannot give it says why, and is not asked again."""
    if results.excused(kind.name, case.columns):
        return
    try:
        values = case.measure(kind, seconds)
    except Exception as error:  # whatever a peer raises: the others go on
        results.excuse(kind.name, case.columns, _word(error), str(error) or repr(error))
    else:
        results.add(kind.name, case.columns, values)


def _word(error: Exception) -> str:
    """Return what stands in the table instead of a value."""
    match error:
        case TooLargeError():
            return TOO_LARGE
        case ImportError():
            return "absent"
        case HungError():
            return "hung"
    return "failed"


# --- the command line -----------------------------------------------------------------------------


def main(*questions: Askable) -> None:
    """Ask the questions as the command line says; print a table for each."""
    answer(questions, parser().parse_args())


def answer(questions: Sequence[Askable], options: argparse.Namespace) -> list[Results]:
    """Ask the questions as the options say; print a table for each, and return what came of it."""
    signal.signal(signal.SIGTERM, _leave)
    console = Console()
    answered: list[Results] = []
    for question in questions:
        answered.append(question.ask(options, console))
        report.show(answered[-1], console)
    if options.json:
        report.save(answered, options.json)
    return answered


def _leave(number: int, _frame: FrameType | None) -> None:
    """Leave as by an exception, so that processes are reaped and names unlinked."""
    sys.exit(128 + number)


def parser() -> argparse.ArgumentParser:
    """Return the options of every benchmark; one that has more adds them."""
    options = argparse.ArgumentParser(description="Measure shmipc beside its peers.")
    options.add_argument("--rounds", type=int, help="measurements of each cell; medians are shown")
    options.add_argument("--seconds", type=float, help="length of one measurement")
    options.add_argument(
        "--quick", action="store_true", help="one short round, to see that all runs"
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    options.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="channels whose name contains NAME"
    )
    return options
