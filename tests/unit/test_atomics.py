"""AtomicInt64, AtomicUInt64: every call, limits, waiting, threads and processes that add."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest
from helpers import KILLS, Forked, Gate, in_child, in_thread, made, named, wait_until_asleep
from isolation import isolated

from shmipc import AtomicInt64, AtomicUInt64, ClosedError

LIMITS = {AtomicInt64: (-(1 << 63), (1 << 63) - 1), AtomicUInt64: (0, (1 << 64) - 1)}
each_class = pytest.mark.parametrize("cls", LIMITS)


@each_class
def test_load_store_and_exchange(cls: Any) -> None:
    with made(cls) as number:
        assert number.load() == 0
        assert number.store(5) is None
        assert number.load() == 5
        assert number.exchange(7) == 5
        assert number.load() == 7


@each_class
def test_the_first_value_is_the_one_given(cls: Any) -> None:
    for value in (0, 1, *LIMITS[cls]):
        assert cls(value).load() == value


@each_class
def test_compare_exchange_changes_what_was_expected_only(cls: Any) -> None:
    number = cls(3)
    assert number.compare_exchange(4, 5) is False
    assert number.load() == 3
    assert number.compare_exchange(3, 5) is True
    assert number.load() == 5


@each_class
def test_add_gives_the_sum(cls: Any) -> None:
    number = cls(10)
    assert number.add() == 11
    assert number.add(5) == 16
    assert number.add(-16) == 0


@each_class
def test_the_limits_can_be_reached_and_not_passed(cls: Any) -> None:
    least, most = LIMITS[cls]
    number = cls(most)
    with pytest.raises(OverflowError, match=str(most)):
        number.add()
    assert number.load() == most
    number.store(least)
    with pytest.raises(OverflowError):
        number.add(-1)
    assert number.load() == least
    assert number.add((1 << 63) - 1) == least + (1 << 63) - 1


@each_class
def test_what_does_not_fit_is_refused_everywhere(cls: Any) -> None:
    least, most = LIMITS[cls]
    number = cls(1)
    for value in (least - 1, most + 1, 1 << 70):
        for call in (
            lambda value=value: number.store(value),
            lambda value=value: number.exchange(value),
            lambda value=value: number.compare_exchange(1, value),
            lambda value=value: number.compare_exchange(value, 1),
            lambda value=value: number.wait(value, 0),
            lambda value=value: cls(value),
        ):
            with pytest.raises(OverflowError):
                call()
    with pytest.raises(OverflowError):
        number.add(most)
    assert number.load() == 1


@each_class
@pytest.mark.parametrize("bad", [1.5, "1", None, b"1", 2 + 0j])
def test_what_is_no_integer_is_refused_everywhere(cls: Any, bad: Any) -> None:
    number = cls(1)
    for call in (
        number.store,
        number.exchange,
        number.add,
        lambda bad: number.compare_exchange(1, bad),
        lambda bad: number.compare_exchange(bad, 1),
        lambda bad: number.wait(bad, 0),
        cls,
    ):
        with pytest.raises(TypeError):
            call(bad)
    assert number.load() == 1


@each_class
def test_a_closed_number_is_refused(cls: Any) -> None:
    number = cls()
    number.close()
    for call in (number.load, number.add, lambda: number.store(1), lambda: number.wait(0)):
        with pytest.raises(ClosedError):
            call()


@each_class
def test_repr_shows_the_number(cls: Any, name: str) -> None:
    with named(cls, name) as number:
        number.store(12)
        assert repr(number) == f"<{cls.__name__} '{name}'(12)>"


# --- waiting ------------------------------------------------------------------------------------


@each_class
def test_wait_does_not_wait_for_another_number(cls: Any) -> None:
    number = cls(3)
    assert number.wait(4) == 3
    assert number.wait(3, 0) == 3
    assert number.wait(3, timeout=0.01) == 3
    assert number.wait(3, -1) == 3


CHANGES = {
    "store": lambda number: number.store(9),
    "add": lambda number: number.add(9),
    "exchange": lambda number: number.exchange(9),
    "compare_exchange": lambda number: number.compare_exchange(0, 9),
}


@pytest.mark.parametrize("how", CHANGES)
@each_class
@isolated()
def test_every_change_wakes_who_waits(cls: Any, how: str) -> None:
    with made(cls) as number:
        children = [Forked(number.wait, 0) for _ in range(3)]
        threads = [in_thread(lambda: number.wait(0)) for _ in range(2)]
        for child in children:
            wait_until_asleep(child.pid)
        CHANGES[how](number)
        assert [child.result() for child in children] == [9, 9, 9]
        assert [result() for result in threads] == [9, 9]


@isolated()
def test_a_store_of_the_same_number_wakes_nobody() -> None:
    with made(AtomicInt64) as number:
        child = Forked(number.wait, 0)
        wait_until_asleep(child.pid)
        number.store(0)
        assert number.compare_exchange(1, 2) is False
        wait_until_asleep(child.pid)
        number.store(1)
        assert child.result() == 1


@isolated()
def test_close_ends_a_wait() -> None:
    number = AtomicInt64()
    result = in_thread(lambda: number.wait(0))
    time.sleep(0.05)
    number.close()
    with pytest.raises(ClosedError):
        result()


@isolated()
def test_a_waiter_that_is_killed_takes_no_wake_with_it() -> None:
    with made(AtomicInt64) as number:
        for turn in range(10):
            victim, other = Forked(number.wait, turn), Forked(number.wait, turn)
            wait_until_asleep(victim.pid)
            wait_until_asleep(other.pid)
            victim.kill()
            number.add()
            assert other.result() == turn + 1


# --- many who add -------------------------------------------------------------------------------


def add_often(number: Any, times: int, amount: int = 1) -> None:
    for _ in range(times):
        number.add(amount)


@each_class
@isolated()
def test_nothing_is_lost_between_threads_and_processes(cls: Any) -> None:
    with made(cls, value=100_000) as number:

        def add_in_threads() -> None:
            threads = [
                threading.Thread(target=add_often, args=(number, 5000, amount))
                for amount in (1, 2, -1)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        children = [Forked(add_in_threads) for _ in range(3)]
        add_in_threads()
        for child in children:
            child.result()
        assert number.load() == 100_000 + 4 * 5000 * 2


@each_class
@isolated()
def test_numbers_that_processes_exchange_are_all_there(cls: Any) -> None:
    """Each number put in comes out once."""

    def exchange(numbers: range) -> list[int]:
        return [number.exchange(value) for value in numbers]

    with made(cls) as number:
        children = [Forked(exchange, range(n * 3000 + 1, n * 3000 + 3001)) for n in range(3)]
        out = [value for child in children for value in child.result()]
        assert sorted([*out, number.load()]) == list(range(9001))


@pytest.mark.parametrize("kills", KILLS)
@isolated(limit=120)
def test_a_killed_adder_has_added_or_not(kills: int) -> None:
    """Each adder counts in a number of its own first: the sum is at most one short of it."""
    rng = random.Random(kills)

    def add_for_ever() -> None:
        started.open()
        while True:
            own.add()
            total.add()

    with made(AtomicInt64) as own, made(AtomicInt64) as total:
        started = Gate()
        lost = 0
        for _ in range(kills):
            victim = Forked(add_for_ever)
            started.wait()
            time.sleep(rng.random() / 100)
            victim.kill()
            found = own.load() - total.load() - lost
            assert found in (0, 1)
            lost += found
        started.close()
        assert total.load() > kills
        assert in_child(total.add, 1000) == total.load()
