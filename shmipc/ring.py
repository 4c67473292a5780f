"""Rings: messages of bytes between processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.membership import SLOTS, Plan
from shmipc.segment import SharedObject, check_choice, check_size, check_spin

__all__ = ["Ring", "RingStats", "Side", "Waits"]

DEFAULT_CAPACITY = 4 << 20

Side = Literal["one", "many"]
Sleep = Literal["futex", "semaphore"]


class Waits(NamedTuple):
    """How one side of this handle has waited so far, in this process."""

    spins: int
    """Waits that began by spinning."""
    parks: int
    """Times it slept."""
    wakes: int
    """Times it woke somebody up."""


class RingStats(NamedTuple):
    """Counts of a ring.  They come from its cursors; nothing is counted beside the messages."""

    put: int
    """Messages put so far, by all processes."""
    taken: int
    """Messages taken so far, by all processes."""
    depth: int
    """Messages put and not taken."""
    bytes_used: int
    """Bytes of the capacity that they and their headers take."""
    capacity: int
    producing: Waits
    consuming: Waits


@dataclass(frozen=True)
class RingParameters:
    """What a ring is made with."""

    capacity: int = DEFAULT_CAPACITY
    producers: Side = "many"
    consumers: Side = "many"
    lock: Sleep = "futex"
    spin: float | None = None

    def __post_init__(self) -> None:
        size = check_size("capacity", self.capacity)
        # Powers of two: a position becomes a place by masking.  The dataclass is frozen.
        whole = max(binding.GRANULE, 1 << (size - 1).bit_length())
        object.__setattr__(self, "capacity", whole)
        check_choice("producers", self.producers, ("one", "many"))
        check_choice("consumers", self.consumers, ("one", "many"))
        check_choice("lock", self.lock, ("futex", "semaphore"))
        check_spin(self.spin)

    @property
    def flags(self) -> int:
        return (
            (binding.ONE_PRODUCER if self.producers == "one" else 0)
            | (binding.ONE_CONSUMER if self.consumers == "one" else 0)
            | (binding.SEMAPHORES if self.lock == "semaphore" else 0)
        )


def plan_ring(
    kind: int, parameters: RingParameters, *, max_items: int = 0, flags: int = 0, codec: str = ""
) -> Plan:
    """The segment of a ring, or of a queue over one."""

    def write_body(attachment: Attachment) -> None:
        all_flags = parameters.flags | flags
        binding.format_ring(attachment, parameters.capacity, max_items, all_flags, codec.encode())

    return Plan(
        kind,
        body_size=binding.ring_body_size(SLOTS),
        payload_size=parameters.capacity,
        semaphores=binding.RING_PLACES if parameters.lock == "semaphore" else 0,
        format=write_body,
    )


def read_ring(attachment: Attachment) -> dict[str, Any]:
    """The parameters of an existing ring, or of the one below a queue."""
    capacity, maxsize, flags, codec = binding.ring_parameters(attachment)
    return {
        "capacity": capacity,
        "producers": "one" if flags & binding.ONE_PRODUCER else "many",
        "consumers": "one" if flags & binding.ONE_CONSUMER else "many",
        "lock": "semaphore" if flags & binding.SEMAPHORES else "futex",
        "maxsize": maxsize,
        "codec": codec,
    }


class SharedRing(binding.RingBase, SharedObject):
    """What rings and queues share, beside the binding's hot methods."""

    _local: tuple[str, ...] = ("spin",)
    _spin: float | None = None

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        return read_ring(attachment)

    @classmethod
    def _make_body_anew(cls, attachment: Attachment) -> None:
        capacity, max_items, flags, codec = binding.ring_parameters(attachment)
        attachment.clear_body()
        binding.format_ring(attachment, capacity, max_items, flags, codec.encode())

    def stats(self) -> RingStats:
        """Counts of the ring, and how this handle has waited."""
        put, taken, used = self._counts()
        producing, consuming = self._waits()
        depth = put - taken
        return RingStats(
            put, taken, depth, used, self.capacity, Waits(*producing), Waits(*consuming)
        )

    def _travelling(self) -> dict[str, Any]:
        return {"spin": self._spin}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class Ring(binding.RingCore, SharedRing):
    """A ring buffer of messages, each any bytes, between any number of processes.

    ``capacity`` is in bytes, rounded up to a power of two; each message takes 24 bytes beside its
    own, and none can be longer than ``max_message``.  With ``producers="one"`` or
    ``consumers="one"`` that side takes no lock: the first process to use it has it until it closes
    the ring, hands it over or dies, and another gets `BusyError`.  ``lock="semaphore"`` sleeps on
    POSIX semaphores instead of futexes.  ``spin`` is how many microseconds to try before sleeping;
    by default it adapts.

    A process may be killed at any instruction: a message is then there whole or not at all, one
    that was being taken is taken by the next, and nobody hangs.
    """

    _kinds = (binding.KIND_RING,)
    _Parameters = RingParameters

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        *,
        producers: Side = "many",
        consumers: Side = "many",
        lock: Sleep = "futex",
        spin: float | None = None,
    ) -> None:
        self._start(RingParameters(capacity, producers, consumers, lock, spin))

    @classmethod
    def _plan(cls, parameters: RingParameters) -> Plan:
        return plan_ring(cls._kinds[0], parameters)

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        self._spin = local.get("spin")
        self._bind(attachment, check_spin(self._spin))
