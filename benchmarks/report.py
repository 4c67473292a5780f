"""Medians, ratios and tables."""

from __future__ import annotations

import json
import operator
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

OURS = "shmipc."
"""What the names of the project's own channels begin with; the others are the peers."""

TOO_LARGE = "-"
"""Stands for a message that a channel does not take; it needs no explanation."""

PACKAGES = ("shmipc", "hyperq", "faster-fifo", "pyzmq", "iceoryx2", "posix-ipc")


class Unit(Enum):
    """What a column counts: its symbol, and which of two values is better, if either is."""

    RATE = ("/s", max)
    GIGABYTES = ("GB/s", max)
    NANOSECONDS = ("ns", min)
    MICROSECONDS = ("us", min)
    MILLISECONDS = ("ms", min)
    COUNT = ("", None)

    def __init__(self, symbol: str, better: Callable[..., Any] | None) -> None:
        self.symbol = symbol
        self.better = better


class Column(NamedTuple):
    """One column of a table."""

    title: str
    unit: Unit


class Excuse(NamedTuple):
    """Why a cell is without a value: a word for the table, and what lies behind it."""

    word: str
    reason: str


@dataclass
class Results:
    """What every channel gave, column by column and round by round.

    Ratios are to `standard`; without one, to the best of the peers. `notes` are sentences for below
    the table.
    """

    title: str
    names: list[str]
    columns: list[Column]
    standard: str | None = None
    notes: list[str] = field(default_factory=list)
    values: dict[tuple[str, Column], list[float]] = field(default_factory=dict)
    excuses: dict[tuple[str, Column], Excuse] = field(default_factory=dict)

    def add(self, name: str, columns: Iterable[Column], values: Iterable[float]) -> None:
        """Take in one round's values of one channel."""
        for column, value in zip(columns, values, strict=True):
            self.values.setdefault((name, column), []).append(value)

    def excuse(self, name: str, columns: Iterable[Column], word: str, reason: str) -> None:
        """Note why a channel has no value; what it gave in earlier rounds no longer counts."""
        for column in columns:
            self.values.pop((name, column), None)
            self.excuses[name, column] = Excuse(word, reason)

    def excused(self, name: str, columns: Iterable[Column]) -> bool:
        """Whether the channel has failed one of these columns before."""
        return any((name, column) in self.excuses for column in columns)

    def reference(self, column: Column) -> str | None:
        """Return what ratios are to in this column; None if it has no value, or they do not vie.

        It is the standard, or else the best of the peers by its median.
        """
        if column.unit.better is None:
            return None
        if self.standard is not None:
            return self.standard if (self.standard, column) in self.values else None
        return self.best(column)

    def best(self, column: Column) -> str | None:
        """Return the best of the peers by its median; None if none has a value."""
        medians = {
            name: median(values)
            for (name, of), values in self.values.items()
            if of == column and not name.startswith(OURS)
        }
        if column.unit.better is None or not medians:
            return None
        best: str = column.unit.better(medians, key=medians.__getitem__)
        return best

    def ratio(self, name: str, column: Column) -> float | None:
        """Return the ratio to the reference."""
        reference = self.reference(column)
        return None if reference is None else self.versus(name, reference, column)

    def versus(self, name: str, other: str, column: Column) -> float | None:
        """Return the median over the rounds of value to the other's, each pair from one round.

        The two of a pair were measured within seconds of each other, so what slows the whole
        machine for a while falls out.
        """
        if not {(name, column), (other, column)} <= self.values.keys():
            return None
        pairs = zip(self.values[name, column], self.values[other, column], strict=True)
        ratios = [value / base for value, base in pairs if base > 0]
        return median(ratios) if ratios else None


class Bar(NamedTuple):
    """What is asked of the project's own: how `value` is to compare with `base` in one column.

    Without a base it is the best of the peers.
    """

    claim: str
    value: str
    base: str | None
    column: Column
    holds: Callable[[float, float], bool]
    limit: float

    def sentence(self, results: Results) -> str:
        """Return the claim with the ratio that was measured, and whether it will do."""
        base = self.base or results.best(self.column)
        ratio = None if base is None else results.versus(self.value, base, self.column)
        figure = "?" if ratio is None else f"{ratio:.2f}"
        bar = f"{'at most' if self.holds is operator.le else 'at least'} {self.limit:g}"
        verdict = "not measured"
        if ratio is not None:
            verdict = "met" if self.holds(ratio, self.limit) else "MISSED"
        return f"{self.claim.format(figure)} (bar: {bar}): {verdict}."


# --- for people -----------------------------------------------------------------------------------


def show(results: Results, console: Console) -> None:
    """Print the table, and below it what there is to note and why cells are empty."""
    console.print(f"\n{results.title}", style="bold", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in results.columns:
        table.add_column(_heading(column), justify="right", no_wrap=True)
    for name in results.names:
        cells = (_cell(results, name, column) for column in results.columns)
        table.add_row(name, *cells, style="bold" if name.startswith(OURS) else None)
    console.print(table)
    for note in results.notes:
        console.print(f"  {note}", highlight=False, markup=False)
    for line in dict.fromkeys(_apologies(results)):
        console.print(f"  {line}", style="dim", highlight=False, markup=False)


def _heading(column: Column) -> str:
    return f"{column.title}, {column.unit.symbol}" if column.unit.symbol else column.title


def _cell(results: Results, name: str, column: Column) -> str:
    """Return the median, and beside it the ratio to the reference."""
    if (name, column) in results.excuses:
        return results.excuses[name, column].word
    value = median(results.values[name, column])
    ratio = results.ratio(name, column)
    if column.unit is Unit.COUNT:
        return f"{value:.0f}"
    return quantity(value) + ("" if ratio is None else f" [cyan]{quantity(ratio):>5}x[/]")


def quantity(value: float) -> str:
    """Return the number with three digits or so; thousands and millions as k and M."""
    for factor, suffix in ((1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{_digits(value / factor)}{suffix}"
    return _digits(value)


def _digits(value: float) -> str:
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}"


def _apologies(results: Results) -> Iterable[str]:
    for (name, _), (word, reason) in results.excuses.items():
        if word != TOO_LARGE:
            yield f"{name} {word}: {reason}"


# --- for programs ---------------------------------------------------------------------------------


def save(answered: Sequence[Results], path: Path) -> None:
    """Write every measurement, with what it was taken on, as JSON."""
    document = {"setting": _setting(), "questions": [_as_json(results) for results in answered]}
    path.write_text(json.dumps(document, indent=2) + "\n")


def _setting() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _as_json(results: Results) -> dict[str, Any]:
    return {
        "title": results.title,
        "columns": [_column_as_json(results, column) for column in results.columns],
        **({"notes": results.notes} if results.notes else {}),
    }


def _column_as_json(results: Results, column: Column) -> dict[str, Any]:
    return {
        "title": column.title,
        "unit": column.unit.symbol,
        "reference": results.reference(column),
        "channels": {name: _cell_as_json(results, name, column) for name in results.names},
    }


def _cell_as_json(results: Results, name: str, column: Column) -> dict[str, Any]:
    if (name, column) in results.excuses:
        return results.excuses[name, column]._asdict()
    values = results.values[name, column]
    return {"median": median(values), "ratio": results.ratio(name, column), "rounds": values}
