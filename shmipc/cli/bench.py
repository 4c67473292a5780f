"""``shmipc bench``: how fast messages go, as ratios to what multiprocessing offers."""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

import shmipc
from shmipc.cli._output import Meter, compact, make_console, make_table
from shmipc.cli._transports import OURS, PEERS, Job, Pair
from shmipc.cli._workers import Crew

if TYPE_CHECKING:
    from shmipc.cli._arguments import Subparsers

KIB = 1024
MIB = 1024 * KIB

THROUGHPUT = (Job(8), Job(KIB), Job(64 * KIB), Job(MIB))
ROUND_TRIP = Job(64, round_trip=True)
JOBS = (*THROUGHPUT, ROUND_TRIP)

MOST_BYTES = 256 * MIB
"""No measurement sends more: an unbounded queue may have to hold all of it."""


class Case(NamedTuple):
    """A job on one of the transports, which is given by its name."""

    job: Job
    transport: str


CASES = tuple(Case(job, transport.name) for job, transport in product(JOBS, (*OURS, *PEERS)))

Samples = Mapping[Case, Sequence[float]]
"""Messages, or round trips, per second in each round."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure."""

    rounds: int
    seconds: float
    """Of one measurement, about."""


FULL = Effort(rounds=5, seconds=0.2)
QUICK = Effort(rounds=1, seconds=0.02)


def register(subparsers: "Subparsers") -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "bench",
        help="compare throughput and round trip with multiprocessing's queues and pipe",
        description="One process sends to another, through shmipc's Queue and Ring and through "
        "multiprocessing's Queue, SimpleQueue and Pipe, in interleaved rounds. Medians count.",
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it runs")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, and print tables or JSON."""
    effort = QUICK if args.quick else FULL
    with Meter(make_console(stderr=True)) as meter:
        samples = measure(effort, meter)
    if args.json:
        print(json.dumps(as_json(samples, effort), indent=2))
    else:
        print_tables(samples, effort, make_console())
    return 0


def measure(effort: Effort, meter: Meter) -> Samples:
    """Measure every case, round by round, so that a slow moment of the machine hits all alike."""
    samples: dict[Case, list[float]] = {case: [] for case in CASES}
    with Crew() as crew:
        pairs = {transport.name: Pair(crew, transport) for transport in (*OURS, *PEERS)}
        counts = {}
        meter.begin("finding counts", len(CASES))
        for case in CASES:
            counts[case] = _count_for(pairs[case.transport], case.job, effort.seconds)
            meter.reached(len(counts))
        meter.begin("measuring", effort.rounds * len(CASES))
        for done, (_, case) in enumerate(product(range(effort.rounds), CASES), start=1):
            seconds = pairs[case.transport].seconds(case.job, counts[case])
            samples[case].append(counts[case] / seconds)
            meter.reached(done)
    return samples


def _count_for(pair: Pair, job: Job, seconds: float) -> int:
    """How many messages keep `pair` at `job` for about `seconds`; warms it up as well."""
    most = MOST_BYTES // job.size
    count = 8
    while (took := pair.seconds(job, count)) < seconds / 4 and count < most:
        count = min(most, count * 4)
    return max(1, min(most, int(count * seconds / took)))


def print_tables(samples: Samples, effort: Effort, console: Console) -> None:
    """Print what was reached per second, and the ratios to each peer."""
    medians = {case: median(rates) for case, rates in samples.items()}
    console.print(rate_table(medians))
    console.print(ratio_table(medians, reliability(samples, effort)))


def reliability(samples: Samples, effort: Effort) -> str:
    """How far the numbers can be trusted, in a sentence."""
    if effort.rounds == 1:
        return "One short round: it shows that everything runs, not how fast."
    spread = {case: max(rates) / min(rates) for case, rates in samples.items()}
    worst = max(spread, key=spread.__getitem__)
    return (
        f"Medians of {effort.rounds} rounds, of one message sent again and again. The fastest "
        f"round was up to {spread[worst]:.1f} times the slowest "
        f"({worst.transport}, {worst.job.title})."
    )


def rate_table(medians: Mapping[Case, float]) -> Table:
    """Messages and round trips per second: a row for each job, a column for each transport."""
    table = make_table("Messages per second, one producer and one consumer")
    table.add_column("")
    for transport in (*OURS, *PEERS):
        table.add_column(transport.name, justify="right", no_wrap=True)
    for job in JOBS:
        rates = (medians[Case(job, transport.name)] for transport in (*OURS, *PEERS))
        table.add_row(job.title, *map(compact, rates))
    return table


def ratio_table(medians: Mapping[Case, float], note: str) -> Table:
    """How many times as fast each of ours is as each peer."""
    table = make_table("Times as fast as multiprocessing's", f"Above 1, shmipc is faster. {note}")
    for heading in ("", ""):
        table.add_column(heading)
    for peer in PEERS:
        table.add_column(peer.name, justify="right", no_wrap=True)
    for job, own in product(JOBS, OURS):
        to_peers = ratios(medians, job, own.name).values()
        table.add_row(job.title, own.name, *(f"{ratio:.1f}" for ratio in to_peers))
    return table


def ratios(medians: Mapping[Case, float], job: Job, own: str) -> dict[str, float]:
    """The median rate of our transport `own`, over that of each peer."""
    ours = medians[Case(job, own)]
    return {peer.name: ours / medians[Case(job, peer.name)] for peer in PEERS}


def as_json(samples: Samples, effort: Effort) -> dict[str, Any]:
    """The measurements as JSON has them."""
    medians = {case: median(rates) for case, rates in samples.items()}
    return {
        "shmipc": shmipc.__version__,
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "effort": asdict(effort),
        "measurements": [
            {**asdict(case.job), "transport": case.transport, "per_second": rates}
            for case, rates in samples.items()
        ],
        "ratios": [
            {**asdict(job), "transport": own.name, "to": ratios(medians, job, own.name)}
            for job, own in product(JOBS, OURS)
        ],
    }
