"""`X.open`: parameters that were given must agree with what is there."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import named

from shmipc import JoinableQueue, LayoutError, Queue, Ring, Segment

DISAGREEING = [
    (Segment, "size", 4096, 8192),
    (Ring, "capacity", 1 << 16, 1 << 20),
    (Ring, "producers", "one", "many"),
    (Ring, "consumers", "one", "many"),
    (Ring, "lock", "futex", "semaphore"),
    (Queue, "maxsize", 3, 4),
    (Queue, "capacity", 1 << 16, 1 << 20),
    (Queue, "lock", "semaphore", "futex"),
    (JoinableQueue, "maxsize", 3, 4),
]


@pytest.mark.parametrize(("cls", "option", "there", "asked"), DISAGREEING)
def test_what_disagrees_is_named(cls: Any, option: str, there: Any, asked: Any, name: str) -> None:
    with named(cls, name, **{option: there}):
        with pytest.raises(LayoutError, match=option) as error:
            cls.open(name, **{option: asked})
        assert str(asked) in str(error.value)
        cls.open(name, **{option: there}).close()


@pytest.mark.parametrize("cls", [Ring, Queue])
def test_what_was_not_given_may_differ_from_the_default(cls: Any, name: str) -> None:
    with named(cls, name, capacity=1 << 16, lock="semaphore", producers="one"):
        cls.open(name).close()
