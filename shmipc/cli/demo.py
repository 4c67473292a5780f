"""``shmipc demo``: real files through a queue, checked, and timed beside multiprocessing's."""

import argparse
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from shmipc.cli._arguments import positive_int
from shmipc.cli._files import (
    Difference,
    Listing,
    Result,
    differences,
    examine_all,
    list_files,
    read_all,
)
from shmipc.cli._output import Meter, make_console, make_table
from shmipc.cli._relay import MULTIPROCESSING, SHMIPC, QueueKind, Team, relay

if TYPE_CHECKING:
    from shmipc.cli._arguments import Subparsers

NOT_THE_LIBRARY = frozenset({"site-packages", "dist-packages", "__pycache__"})
"""Folders inside the standard library's that are not part of it."""

SHOWN_DIFFERENCES = 10


@dataclass(frozen=True, slots=True)
class Run:
    """One way through the work: how long it took, and what came out."""

    name: str
    seconds: float
    results: list[Result]
    messages: int = 0

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(result.size for result in self.results)


def register(subparsers: "Subparsers") -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "demo",
        help="send real files through a queue and compare the results with a sequential run",
        description="Producers read every file under PATH and put it into a queue; consumers hash "
        "it and count its words. The results are compared with a sequential run, and "
        "shmipc.Queue with multiprocessing.Queue. Exits with 1 if a result differs.",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        help="a directory or a file (default: this Python's standard library)",
    )
    parser.add_argument("--producers", metavar="N", type=positive_int, default=2, help="default: 2")
    parser.add_argument("--consumers", metavar="M", type=positive_int, default=2, help="default: 2")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do the work sequentially and through both queues; 0 if the results are the same."""
    listing = _listing(args.path)
    team = Team(args.producers, args.consumers)
    with Meter(make_console(stderr=True)) as meter:
        # The first run would otherwise be the only one that waits for the disk.
        meter.begin("reading once", len(listing.sources))
        read_all(listing, meter.reached)
        sequential = _run_sequentially(listing, meter)
        runs = [_run_through(kind, listing, team, meter) for kind in (SHMIPC, MULTIPROCESSING)]
    make_console().print(result_table([sequential, *runs], team))
    return report(listing, sequential, runs, make_console(stderr=True))


def _listing(path: str | None) -> Listing:
    if path is None:
        return list_files(sysconfig.get_path("stdlib"), ignore=NOT_THE_LIBRARY)
    return list_files(path)


def _run_sequentially(listing: Listing, meter: Meter) -> Run:
    meter.begin("sequential", len(listing.sources))
    started = time.perf_counter()
    results = examine_all(listing, meter.reached)
    return Run("sequential", time.perf_counter() - started, results)


def _run_through(kind: QueueKind, listing: Listing, team: Team, meter: Meter) -> Run:
    meter.begin(kind.name, len(listing.sources))
    started = time.perf_counter()
    results = relay(listing, kind, team, meter.reached)
    return Run(kind.name, time.perf_counter() - started, results, 2 * len(results))


def result_table(runs: Sequence[Run], team: Team) -> Table:
    """The closing table, a row for each run."""
    table = make_table(
        f"{team.producers} producers, {team.consumers} consumers",
        "Seconds include starting the processes. Each file is two messages: "
        "its contents out, its result back.",
    )
    table.add_column("")
    for heading in ("files", "bytes", "seconds", "messages/s", "MB/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in runs:
        table.add_row(
            each.name,
            f"{len(each.results):,}",
            f"{each.size:,}",
            f"{each.seconds:.3f}",
            f"{each.messages / each.seconds:,.0f}" if each.messages else "-",
            f"{each.size / 1e6 / each.seconds:,.1f}",
        )
    return table


def report(listing: Listing, sequential: Run, runs: Sequence[Run], console: Console) -> int:
    """Say on `console` whether all results are the sequential run's; the exit code."""
    left_out = listing.left_out + sum(result.digest is None for result in sequential.results)
    if left_out:
        console.print(f"Left out, as unreadable or too large: {left_out} files or directories.")
    failed = False
    for each in runs:
        found = differences(sequential.results, each.results)
        _print_differences(each.name, found, console)
        failed = failed or bool(found)
    if not failed:
        console.print("All results are the same as in the sequential run.")
    return int(failed)


def _print_differences(name: str, found: Sequence[Difference], console: Console) -> None:
    if not found:
        return
    console.print(f"{name}: {len(found)} differences from the sequential run:")
    for difference in found[:SHOWN_DIFFERENCES]:
        console.print(f"  {difference}")
    if len(found) > SHOWN_DIFFERENCES:
        console.print(f"  and {len(found) - SHOWN_DIFFERENCES} more")
