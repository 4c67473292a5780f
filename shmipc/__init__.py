"""Queues, locks and buffers between the processes of one machine, in shared memory.

They feel like the standard library's, survive ``kill -9`` at any instruction, and are as fast as a
ring under a Python call can be.
"""

from typing import TYPE_CHECKING

from shmipc.errors import (
    BrokenBarrierError,
    BrokenError,
    BusyError,
    ClosedError,
    CorruptError,
    Empty,
    Full,
    LayoutError,
    MappingFault,
    MappingLimitError,
    OwnerDiedError,
    OwnerDiedWarning,
    ShmipcError,
    ShutDown,
)
from shmipc.lock import Lock, LockStats, Owner, RLock, SemaphoreLock
from shmipc.mapping import Mapping, guard_faults, unguard_faults
from shmipc.queue import JoinableQueue, Queue, SimpleQueue
from shmipc.reader import Reader
from shmipc.ring import Ring, RingStats, Waits
from shmipc.segment import Participant, Segment
from shmipc.sync import Barrier, BoundedSemaphore, Condition, Event, RWLock, Semaphore
from shmipc.values import Array, AtomicInt64, AtomicUInt64, RawArray, RawValue, Value

if TYPE_CHECKING:
    from shmipc.arrays import SharedArray as SharedArray

__version__ = "0.1.0"

__all__ = [
    "Array",
    "AtomicInt64",
    "AtomicUInt64",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "BrokenError",
    "BusyError",
    "ClosedError",
    "Condition",
    "CorruptError",
    "Empty",
    "Event",
    "Full",
    "JoinableQueue",
    "LayoutError",
    "Lock",
    "LockStats",
    "Mapping",
    "MappingFault",
    "MappingLimitError",
    "Owner",
    "OwnerDiedError",
    "OwnerDiedWarning",
    "Participant",
    "Queue",
    "RLock",
    "RWLock",
    "RawArray",
    "RawValue",
    "Reader",
    "Ring",
    "RingStats",
    "Segment",
    "Semaphore",
    "SemaphoreLock",
    "ShmipcError",
    "ShutDown",
    "SimpleQueue",
    "Value",
    "Waits",
    "guard_faults",
    "unguard_faults",
]


def __getattr__(name: str) -> object:
    """`SharedArray` needs NumPy, which nothing else does; so ``import *`` leaves it out."""
    if name == "SharedArray":
        from shmipc.arrays import SharedArray

        return SharedArray
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "SharedArray"})
