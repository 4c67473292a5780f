"""The examples as a reader runs them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, run_python
from isolation import isolated, shared_names

EXAMPLES = ROOT / "examples"
COUNT = 100


def run_example(script: str, *arguments: str) -> list[str]:
    """The lines that an example prints, when it ends well."""
    done = run_python(str(EXAMPLES / script), *arguments)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def test_every_example_is_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    for script in EXAMPLES.rglob("*.py"):
        assert str(script.relative_to(EXAMPLES)) in readme


# --- the small ones -----------------------------------------------------------------------------


def test_word_count_counts(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.py").write_text("import words\n" * number + "words alone")
    lines = run_example("word_count.py", str(tmp_path), "--producers", "3", "--top", "2")
    assert lines == [
        f"{2 * 190 + 2 * 20} words, 3 of them different, in 20 files",
        "     210  words",
        "     190  import",
    ]


def test_word_count_takes_the_standard_library_by_default() -> None:
    first, *top = run_example("word_count.py")
    assert "words" in first
    assert any(line.split()[1] == "self" for line in top)


def test_the_locked_count_is_right() -> None:
    lines = run_example("fork_buffer.py", "--processes", "3", "--steps", "2000")
    totals = {line[:14].strip(): int(line[14:].replace(",", "")) for line in lines[1:]}
    assert totals["expected"] == totals["with a lock"] == 6000
    assert 0 < totals["without a lock"] <= 6000


def test_the_shared_array_is_filled_by_all() -> None:
    totals = set()
    for processes in ("1", "3"):
        lines = run_example("shared_array.py", "--processes", processes, "--size", "60")
        assert lines[-1].endswith("steps in all")
        totals.add(lines[-1])
    assert len(totals) == 1


# --- two programs that meet by name -------------------------------------------------------------


class Program:
    """One of the two programs, at work."""

    def __init__(self, script: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, EXAMPLES / "meet_by_name" / script, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []

    def until_it_says(self, text: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.rstrip())
            if text in line:
                return
        raise AssertionError(f"it never said {text!r}: {self._lines}")

    def kill(self) -> list[str]:
        """SIGKILL; what it had said."""
        self._process.kill()
        return self._rest(-signal.SIGKILL)

    def lines(self) -> list[str]:
        """Wait for its good end; what it said."""
        return self._rest(0)

    def _rest(self, status: int) -> list[str]:
        rest, _ = self._process.communicate()
        assert self._process.returncode == status
        return self._lines + rest.splitlines()


def producer(name: str) -> Program:
    return Program("producer.py", "--name", name, "--count", str(COUNT), "--pause", "0.02")


def consumer(name: str) -> Program:
    return Program("consumer.py", "--name", name)


def received(lines: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in lines if line.startswith("received")]


@pytest.mark.parametrize("first", ["producer", "consumer"])
@isolated()
def test_they_meet_in_any_order(first: str, name: str) -> None:
    before = shared_names()
    if first == "producer":
        sender = producer(name)
        sender.until_it_says("sending from 0 on")
        receiver = consumer(name)
    else:
        receiver = consumer(name)
        receiver.until_it_says("waiting")
        sender = producer(name)
    assert sender.lines() == ["sending from 0 on", "all sent"]
    lines = receiver.lines()
    assert received(lines) == list(range(COUNT))
    assert lines[-1] == f"{COUNT} numbers, 0 missing, 0 came again"
    assert shared_names() == before


@isolated()
def test_the_producer_goes_on_after_a_kill(name: str) -> None:
    receiver, sender = consumer(name), producer(name)
    receiver.until_it_says("received 20")
    sender.kill()
    second = producer(name)
    second.until_it_says("sending from")
    assert second.lines()[-1] == "all sent"
    numbers = received(receiver.lines())
    assert sorted(set(numbers)) == list(range(COUNT))
    assert len(numbers) <= COUNT + 1  # the one at which it was killed may have come again
    assert numbers == sorted(numbers)


@isolated()
def test_the_consumer_goes_on_after_a_kill(name: str) -> None:
    receiver, sender = consumer(name), producer(name)
    receiver.until_it_says("received 20")
    before = received(receiver.kill())
    after = received(consumer(name).lines())
    sender.lines()
    numbers = before + after
    assert numbers == sorted(set(numbers))
    lost = set(range(COUNT)) - set(numbers)
    assert lost <= {before[-1] + 1}  # what was in its hands
