"""The suite's own net: a hang, a crash and everything left behind is a failure that says what."""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable

import pytest
from helpers import SHM, Forked, Gate, in_child, pairwise, unique_name
from isolation import isolated


@isolated(limit=2)
def hang() -> None:
    Forked(time.sleep, 600)
    time.sleep(600)


@isolated()
def crash() -> None:
    ctypes.string_at(0)


@isolated()
def leave_a_child() -> None:
    Forked(time.sleep, 600).forget()


@isolated()
def leave_a_descriptor() -> None:
    Gate()


@isolated()
def leave_a_name() -> None:
    (SHM / f"shmipc.{unique_name()}").touch()


@isolated()
def fail_in_a_child() -> None:
    in_child(int, "no number")


@isolated()
def skip() -> None:
    pytest.skip("the reason")


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (hang, ["hung for", "in hang", "Fatal Python error: Aborted"]),
        (crash, ["ended with status -11", "in crash"]),
        (leave_a_child, ["children left"]),
        (leave_a_descriptor, ["descriptors left open"]),
        (leave_a_name, ["left in /dev/shm", "shmipc.test-"]),
        (fail_in_a_child, ["ValueError", "no number", "in fail_in_a_child"]),
    ],
)
def test_it_is_a_failure_that_says_what(test: Callable[[], None], words: list[str]) -> None:
    with pytest.raises(pytest.fail.Exception) as failure:
        test()
    for word in words:
        assert word in str(failure.value)


def test_a_skip_is_a_skip() -> None:
    with pytest.raises(pytest.skip.Exception, match="the reason"):
        skip()


def test_the_pairwise_table_has_every_pair_in_few_rows() -> None:
    factors = {"a": range(3), "b": range(3), "c": range(2), "d": range(2)}
    rows = pairwise(factors)
    for (i, one), (j, other) in itertools.combinations(enumerate(factors.values()), 2):
        assert {(row[i], row[j]) for row in rows} == set(itertools.product(one, other))
    assert len(rows) <= 10
