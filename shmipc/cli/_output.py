"""How the commands print: tables on standard output, progress on standard error."""

import time
from types import TracebackType
from typing import Self, TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

REFRESH = 0.1
"""Seconds between two drawings of a progress bar."""


def make_console(file: TextIO | None = None, *, stderr: bool = False) -> Console:
    """A console that prints what it is given as it is: paths are full of brackets and digits."""
    return Console(file=file, stderr=stderr, markup=False, highlight=False, emoji=False)


def make_table(title: str, caption: str | None = None) -> Table:
    """An empty table in the commands' style, with its captions to the left."""
    return Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )


def compact(number: float) -> str:
    """`number` in three digits and a unit: ``950``, ``12.3 k``, ``4.56 M``."""
    for unit in ("", " k", " M", " G"):
        if abs(number) < 999.5 or unit == " G":
            break
        number /= 1000
    decimals = 0 if abs(number) >= 99.95 or not unit else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{decimals}f}{unit}"


class Meter:
    """A line with a progress bar for each step.

    It is drawn by the thread that reports the progress: a process that is about to fork should have
    no other. Where standard error is no terminal, the lines are written once, at the end.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._step = self._progress.add_task("", visible=False)
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, description: str, total: int) -> None:
        """Start a step of `total` units, on a line of its own."""
        self._progress.stop_task(self._step)
        self._step = self._progress.add_task(description, total=total)
        self._progress.refresh()

    def reached(self, completed: int) -> None:
        """Say that the step stands at `completed` units; cheap enough for every unit."""
        self._progress.update(self._step, completed=completed)
        now = time.monotonic()
        if now - self._drawn >= REFRESH:
            self._progress.refresh()
            self._drawn = now
