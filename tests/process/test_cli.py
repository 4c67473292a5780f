"""The `shmipc` command as a user runs it, and the demo's comparison by itself."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import run_python
from isolation import isolated

from shmipc.cli import _files, _output, _relay, bench, demo
from shmipc.cli._errors import BadInput
from shmipc.cli._files import Difference, Listing, Result, Source

ESCAPE = "\x1b"
LARGE = 5 * 1024 * 1024 + 7


def shmipc_command(*arguments: str, limit: float = 60) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "shmipc", *arguments, limit=limit, COLUMNS="100")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files of awkward names and sizes, and what is to be passed over."""
    root = tmp_path / "files"
    (root / "inner" / "deeper").mkdir(parents=True)
    (root / "plain.txt").write_text("three short words")
    (root / "empty").touch()
    (root / "[bold]brackets.txt").write_text("one two\n" * 1000)
    (root / "inner" / "large").write_bytes(bytes(range(256)) * (LARGE // 256) + b"tail")
    (root / "inner" / "deeper" / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"\0\xff x")
    (root / "inner" / "loop").symlink_to(root)
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    return root


def started_by(method: str) -> str:
    """A program that is the `shmipc` command with a start method of multiprocessing's."""
    return (
        "import multiprocessing, signal, sys\n"
        "from shmipc.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs ignore it
        f"multiprocessing.set_start_method({method!r})\n"
        "sys.exit(main(sys.argv[1:]))"
    )


def result(path: str, words: int = 3) -> Result:
    return Result(path, f"digest of {path}", words, 17)


# --- the comparison -----------------------------------------------------------------------------


def test_results_in_another_order_are_the_same() -> None:
    expected = [result("a"), result("b"), result("c")]
    assert _files.differences(expected, expected[::-1]) == []


@pytest.mark.parametrize(
    ("received", "differences"),
    [
        ([result("a")], [Difference("b", "came 0 times")]),
        ([result("a"), result("b"), result("b")], [Difference("b", "came 2 times")]),
        ([result("a"), result("b"), result("x")], [Difference("x", "was never sent")]),
        (
            [result("a"), result("b", words=4)],
            [
                Difference(
                    "b",
                    "gave 4 words in 17 bytes with digest digest of b "
                    "instead of 3 words in 17 bytes with digest digest of b",
                )
            ],
        ),
        (
            [result("a"), Result("b", None, 0, 0)],
            [
                Difference(
                    "b",
                    "gave nothing readable instead of 3 words in 17 bytes with digest digest of b",
                )
            ],
        ),
    ],
    ids=["missing", "twice", "unknown", "words", "unreadable"],
)
def test_what_is_not_the_same_is_named(
    received: list[Result], differences: list[Difference]
) -> None:
    assert _files.differences([result("a"), result("b")], received) == differences


def test_what_could_not_be_read_is_counted() -> None:
    sequential = demo.Run("sequential", 1.0, [result("a"), Result("b", None, 0, 0)])
    listing = Listing(Path("/"), [Source("a", 17), Source("b", 17)], left_out=2)
    console = _output.make_console(io.StringIO())
    assert demo.report(listing, sequential, [], console) == 0
    assert isinstance(console.file, io.StringIO)
    assert "unreadable or too large: 3 files or directories" in console.file.getvalue()


def report_on(received: list[Result]) -> tuple[int, str]:
    expected = [result("a"), result(os.fsdecode(b"b\xff"))]
    listing = Listing(Path("/"), [Source(each.path, each.size) for each in expected])
    console = _output.make_console(io.StringIO())
    runs = [demo.Run("good", 1.0, expected, 4), demo.Run("other", 1.0, received, 4)]
    code = demo.report(listing, demo.Run("sequential", 1.0, expected), runs, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def test_a_difference_is_reported_and_exits_with_1() -> None:
    code, text = report_on([result("a")])
    assert code == 1
    assert "other: 1 differences" in text
    assert r"'b\udcff' came 0 times" in text
    assert "good" not in text


def test_no_difference_exits_with_0() -> None:
    code, text = report_on([result(os.fsdecode(b"b\xff")), result("a")])
    assert code == 0
    assert "All results are the same" in text


def test_the_table_shows_each_run_and_its_rates() -> None:
    console = _output.make_console(io.StringIO())
    results = [result(str(i)) for i in range(2000)]
    runs = [demo.Run("sequential", 1.0, results), demo.Run("a queue", 0.5, results, 4000)]
    console.print(demo.result_table(runs, _relay.Team(3, 4)))
    assert isinstance(console.file, io.StringIO)
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["3", "producers,", "4", "consumers"] in rows
    assert ["files", "bytes", "seconds", "messages/s", "MB/s"] in rows
    assert ["sequential", "2,000", "34,000", "1.000", "-", "0.0"] in rows
    assert ["a", "queue", "2,000", "34,000", "0.500", "8,000", "0.1"] in rows


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5, "0"), (7, "7"), (999, "999"), (999.7, "1.00 k"), (12_345, "12.3 k"), (4.56e6, "4.56 M")],
)
def test_rates_have_three_digits(number: float, text: str) -> None:
    assert _output.compact(number) == text


# --- the files ----------------------------------------------------------------------------------


def test_only_regular_files_are_listed(folder: Path) -> None:
    listing = _files.list_files(str(folder))
    assert [source.path for source in listing.sources] == [
        "[bold]brackets.txt",
        "empty",
        os.fsdecode(b"inner/deeper/not-utf8-\xff"),
        "inner/large",
        "plain.txt",
    ]
    assert listing.largest == (folder / "inner" / "large").stat().st_size


def test_a_file_that_is_too_large_is_left_out(folder: Path) -> None:
    with (folder / "huge").open("wb") as file:
        file.truncate(_files.LARGEST + 1)
    listing = _files.list_files(str(folder))
    assert "huge" not in {source.path for source in listing.sources}
    assert listing.left_out == 1
    with pytest.raises(BadInput, match="268,435,456 bytes, found 268,435,457"):
        _files.list_files(str(folder / "huge"))


def test_a_file_is_read_as_long_as_it_was_when_listed(folder: Path) -> None:
    listing = _files.list_files(str(folder / "plain.txt"))
    with (folder / "plain.txt").open("a") as file:
        file.write(" and more")
    assert _files.read(listing.root, listing.sources[0]) == b"three short words"


@isolated()
def test_files_that_cannot_be_read_are_results_too(folder: Path) -> None:
    sources = [Source("gone", 5), Source("plain.txt", 17), Source("inner", 4096)]
    listing = Listing(folder, sources)
    expected = _files.examine_all(listing, lambda done: None)
    received = _relay.relay(listing, _relay.SHMIPC, _relay.Team(2, 2), lambda done: None)
    assert [each.digest is None for each in expected] == [True, False, True]
    assert _files.differences(expected, received) == []


# --- the demo -----------------------------------------------------------------------------------


def test_the_demo_passes_on_awkward_files_and_writes_no_control_codes(folder: Path) -> None:
    done = shmipc_command("demo", str(folder), "--producers", "3", "--consumers", "2")
    assert done.returncode == 0, done.stderr
    assert ESCAPE not in done.stdout + done.stderr
    assert "All results are the same" in done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    size = sum(source.size for source in _files.list_files(str(folder)).sources)
    for run in ("sequential", "shmipc.Queue", "multiprocessing.Queue"):
        assert rows[run][:2] == ["5", f"{size:,}"]
        assert f"{run} " in done.stderr


def test_the_demo_takes_a_single_file(folder: Path) -> None:
    done = shmipc_command("demo", str(folder / "plain.txt"))
    assert done.returncode == 0, done.stderr


def test_the_demo_takes_the_standard_library_by_default() -> None:
    done = shmipc_command("demo")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_demo_runs_under_every_start_method(folder: Path, method: str) -> None:
    done = run_python("-c", started_by(method), "demo", str(folder))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "No such file or directory"),
        ("", "PATH is empty"),
        ("files/pipe", "neither a directory nor a regular file"),
        ("nothing", "no regular file"),
        ("files/plain.txt/below", "Not a directory"),
    ],
)
def test_a_bad_path_exits_with_2(folder: Path, path: str, reason: str) -> None:
    (folder.parent / "nothing").mkdir()
    done = shmipc_command("demo", str(folder.parent / path) if path else "")
    assert done.returncode == 2
    assert done.stderr.startswith("shmipc demo: error: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["other"], ["demo", "--producers", "0"], ["demo", "--consumers", "many"]],
    ids=["none", "unknown", "zero", "word"],
)
def test_bad_arguments_exit_with_2(arguments: list[str]) -> None:
    done = shmipc_command(*arguments)
    assert done.returncode == 2
    assert "usage: shmipc" in done.stderr


# --- when somebody dies -------------------------------------------------------------------------


@contextmanager
def demo_at_work() -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """The demo on the standard library, in a session of its own, and its workers' pids."""
    command = [sys.executable, "-c", started_by("fork"), "demo"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process, until(lambda: children_of(process.pid))


def until(found: Callable[[], list[int]]) -> list[int]:
    """What `found` gives once it is not empty; `isolated` limits the wait."""
    while not (what := found()):
        time.sleep(0.005)
    return what


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def are_gone(pids: list[int]) -> list[bool]:
    return [True] if not any(Path(f"/proc/{pid}").exists() for pid in pids) else []


@isolated()
def test_a_killed_worker_ends_the_demo_with_1() -> None:
    with demo_at_work() as (process, workers):
        os.kill(workers[0], signal.SIGKILL)
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert "producer 1 was killed by signal 9 (Killed)" in stderr
    assert "Traceback" not in stderr


@isolated()
def test_an_interrupt_ends_the_demo_and_its_workers() -> None:
    with demo_at_work() as (process, workers):
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert are_gone(workers)


@isolated()
def test_workers_end_when_the_demo_is_killed() -> None:
    with demo_at_work() as (process, workers):
        process.kill()
        process.wait()
        until(lambda: are_gone(workers))


# --- the benchmark ------------------------------------------------------------------------------


def test_the_benchmark_measures_every_case() -> None:
    done = shmipc_command("bench", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    jobs = {(8, False), (1024, False), (65536, False), (1048576, False), (64, True)}
    ours = {"shmipc.Queue", "shmipc.Ring"}
    peers = {"Queue", "SimpleQueue", "Pipe"}
    rates = {
        (each["size"], each["round_trip"], each["transport"]): each["per_second"]
        for each in measured["measurements"]
    }
    assert rates.keys() == {(*job, name) for job in jobs for name in ours | peers}
    assert all(len(each) == 1 and each[0] > 0 for each in rates.values())
    assert len(measured["ratios"]) == len(jobs) * len(ours)
    for each in measured["ratios"]:
        job = each["size"], each["round_trip"]
        for peer in peers:
            expected = rates[*job, each["transport"]][0] / rates[*job, peer][0]
            assert each["to"][peer] == pytest.approx(expected)


def test_the_benchmark_says_how_far_its_rounds_differ() -> None:
    samples = {case: [1.0, 1.1] for case in bench.CASES}
    ring = bench.Case(bench.ROUND_TRIP, "shmipc.Ring")
    said = bench.reliability({**samples, ring: [2.0, 5.0]}, bench.Effort(2, 0.2))
    assert "up to 2.5 times the slowest (shmipc.Ring, 64 B round trip)" in said
    assert "not how fast" in bench.reliability(samples, bench.QUICK)


def test_the_benchmark_prints_plain_tables() -> None:
    done = shmipc_command("bench", "--quick")
    assert done.returncode == 0, done.stderr
    assert ESCAPE not in done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["shmipc.Queue", "shmipc.Ring", "Queue", "SimpleQueue", "Pipe"] in lines
    assert "not how fast" in " ".join(done.stdout.split())
    assert sum(line[2:3] == ["shmipc.Ring"] for line in lines) == 4
    assert sum(line[:4] == ["64", "B", "round", "trip"] for line in lines) == 3
