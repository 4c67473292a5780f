"""Queues, locks and buffers between the processes of one machine, in shared memory.

They feel like the standard library's, survive ``kill -9`` at any instruction, and are as fast as a
ring under a Python call can be.
"""

from shmipc.errors import (
    BrokenError,
    BusyError,
    ClosedError,
    CorruptError,
    Empty,
    Full,
    LayoutError,
    MappingFault,
    MappingLimitError,
    OwnerDiedWarning,
    ShmipcError,
    ShutDown,
)
from shmipc.lock import Lock, RLock, SemaphoreLock
from shmipc.mapping import Mapping, guard_faults, unguard_faults
from shmipc.queue import JoinableQueue, Queue, SimpleQueue
from shmipc.reader import Reader
from shmipc.ring import Ring, RingStats, Waits
from shmipc.segment import Participant, Segment

__version__ = "0.1.0"

__all__ = [
    "BrokenError",
    "BusyError",
    "ClosedError",
    "CorruptError",
    "Empty",
    "Full",
    "JoinableQueue",
    "LayoutError",
    "Lock",
    "Mapping",
    "MappingFault",
    "MappingLimitError",
    "OwnerDiedWarning",
    "Participant",
    "Queue",
    "RLock",
    "Reader",
    "Ring",
    "RingStats",
    "Segment",
    "SemaphoreLock",
    "ShmipcError",
    "ShutDown",
    "SimpleQueue",
    "Waits",
    "guard_faults",
    "unguard_faults",
]
