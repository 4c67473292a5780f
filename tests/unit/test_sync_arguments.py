"""What is refused before anything is touched, and what is taken for a number."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from helpers import LOCK_CLASSES, made

from shmipc import (
    AtomicInt64,
    AtomicUInt64,
    Barrier,
    BoundedSemaphore,
    ClosedError,
    Condition,
    Event,
    Lock,
    RLock,
    RWLock,
    Segment,
    Semaphore,
)

ATOMICS = [AtomicInt64, AtomicUInt64]


class Three:
    """Not an int, but as good."""

    def __index__(self) -> int:
        return 3


# --- whole numbers ------------------------------------------------------------------------------


def test_what_can_be_an_index_is_a_number() -> None:
    assert Semaphore(Three()).get_value() == 3  # type: ignore[arg-type]
    assert BoundedSemaphore(Three()).get_value() == 3  # type: ignore[arg-type]
    assert Barrier(Three()).parties == 3  # type: ignore[arg-type]
    for cls in ATOMICS:
        number = cls(Three())  # type: ignore[arg-type]
        assert number.add(Three()) == 6  # type: ignore[arg-type]
        assert number.exchange(Three()) == 6  # type: ignore[arg-type]
        assert number.compare_exchange(Three(), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [1.0, 1.5, "1", None, Fraction(3, 1)], ids=repr)
@pytest.mark.parametrize("cls", ATOMICS)
def test_no_fraction_of_a_number_is_cut_off(cls: Any, bad: Any) -> None:
    with made(cls, value=7) as number:
        for use in (
            number.store,
            number.add,
            number.exchange,
            number.wait,
            lambda value: number.compare_exchange(value, 0),
            lambda value: number.compare_exchange(7, value),
        ):
            with pytest.raises(TypeError):
                use(bad)
        with pytest.raises(TypeError):
            cls(bad)
        assert number.load() == 7


@pytest.mark.parametrize("bad", [1.0, "1", None], ids=repr)
def test_notify_takes_a_number_of_waiters(bad: Any) -> None:
    with made(Condition) as condition, condition:
        with pytest.raises(TypeError):
            condition.notify(bad)
        condition.notify(-1)
        condition.notify(0)


def test_an_unsigned_number_takes_any_amount_that_fits() -> None:
    with made(AtomicUInt64) as number:
        assert number.add(2**64 - 1) == 2**64 - 1
        assert number.add(-(2**64) + 1) == 0
        assert number.add(2**63) == 2**63
        for amount in (2**63, -(2**63) - 1, 2**64, 10**30, -(10**30)):
            with pytest.raises(OverflowError):
                number.add(amount)
        assert number.load() == 2**63


# --- timeouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["1", [], float("nan"), 1j], ids=repr)
def test_a_bad_default_timeout_of_a_barrier_makes_nothing(bad: Any, tmp_path: Path) -> None:
    for make in (
        lambda: Barrier(2, None, bad),
        lambda: Barrier.create(tmp_path / "barrier", 2, None, bad),
        lambda: Barrier.open(tmp_path / "barrier", 2, timeout=bad),
    ):
        with pytest.raises((TypeError, ValueError), match="timeout"):
            make()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["1", [], float("nan"), 1j], ids=repr)
def test_a_bad_timeout_leaves_a_condition_and_its_lock_alone(bad: Any) -> None:
    with made(Condition) as condition:
        with condition:
            with pytest.raises((TypeError, ValueError), match="timeout"):
                condition.wait(bad)
            assert condition._lock.owner() is not None
            assert condition._waiting() == 0
        with pytest.raises((TypeError, ValueError), match="timeout"):
            condition.acquire(timeout=bad)
        assert condition._lock.owner() is None


@pytest.mark.parametrize("timeout", [Fraction(1, 100), 0, -5, 1e-300, -float("inf")], ids=repr)
def test_what_can_be_a_float_is_a_timeout(timeout: Any) -> None:
    assert Semaphore(0).acquire(timeout=timeout) is False
    assert BoundedSemaphore(0).acquire(timeout=timeout) is False
    assert Event().wait(timeout) is False
    assert AtomicInt64(5).wait(5, timeout) == 5
    with made(RWLock) as lock, lock.read_lock():
        assert lock.acquire_write_lock(timeout=timeout) is False
    with made(Condition) as condition, condition:
        assert condition.wait(timeout) is False


# --- what has to be given -----------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "missing"), [(Barrier, "parties"), (Segment, "size")])
@pytest.mark.parametrize("door", ["create", "open"])
def test_what_has_no_default_has_to_be_given(
    cls: Any, missing: str, door: str, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=missing):
        getattr(cls, door)(tmp_path / "thing")
    assert list(tmp_path.iterdir()) == []
    made_with = cls.create(tmp_path / "thing", **{missing: 5})
    cls.open(tmp_path / "thing").close()  # as it is
    cls.attach(tmp_path / "thing").close()
    made_with.unlink()
    made_with.close()


@pytest.mark.parametrize("cls", LOCK_CLASSES)
def test_a_condition_over_a_closed_lock_is_refused(cls: Any, tmp_path: Path) -> None:
    lock = cls()
    lock.close()
    for make in (lambda: Condition(lock), lambda: Condition.create(tmp_path / "condition", lock)):
        with pytest.raises(ClosedError):
            make()
    assert list(tmp_path.iterdir()) == []


# --- after close --------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", [None, *LOCK_CLASSES])
def test_a_closed_condition_does_not_take_its_lock(lock: Any) -> None:
    given = lock and lock()
    condition = Condition(given)
    condition.close()
    for use in (
        condition.acquire,
        lambda: condition.acquire(False),
        condition.__enter__,
        condition.notify,
        condition.notify_all,
        condition.wait,
    ):
        with pytest.raises(ClosedError):
            use()
    if given is not None:
        assert given.owner() is None


def test_a_lock_that_is_given_stays_open_when_its_condition_is_closed() -> None:
    with made(Lock) as lock:
        condition = Condition(lock)
        with condition:  # it is held, and can be given back
            condition.close()
        assert not lock.locked()
        with lock:
            pass


@pytest.mark.parametrize("cls", [RLock, Lock])
def test_recover_takes_its_argument_by_name(cls: Any) -> None:
    with made(cls) as lock:
        with pytest.raises(TypeError):
            lock.recover(True)
        assert lock.recover(acquire=True) is False
        assert not lock.locked()
