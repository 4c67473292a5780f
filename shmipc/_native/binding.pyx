# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, embedsignature=False
# cython: cdivision=True, freethreading_compatible=False, auto_pickle=False
"""The native core for Python: one to one, with no policy.

Python's own lock is what keeps two threads of a process out of the same handle: everything that
takes, commits or releases runs under it, only waits and long copies run without.  Signatures for
people and tools stand in binding.pyi.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, \
    PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, \
    PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.long cimport PyLong_CheckExact
from cpython.number cimport PyIndex_Check, PyNumber_AsSsize_t, PyNumber_Index
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport EACCES, EFAULT
from libc.limits cimport INT_MAX
from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

from types import GenericAlias

from shmipc._native.core cimport *

from shmipc.errors import (
    BrokenBarrierError, BrokenError, BusyError, ClosedError, CorruptError, Empty, Full, LayoutError,
    MappingFault, NameGone, ShutDown,
)

KIND_SEGMENT = SHM_KIND_SEGMENT
KIND_ARENA = SHM_KIND_ARENA
KIND_LOCK = SHM_KIND_LOCK
KIND_RLOCK = SHM_KIND_RLOCK
KIND_SEMAPHORE_LOCK = SHM_KIND_SEMAPHORE_LOCK
KIND_RING = SHM_KIND_RING
KIND_QUEUE = SHM_KIND_QUEUE
KIND_JOINABLE_QUEUE = SHM_KIND_JOINABLE_QUEUE
KIND_SIMPLE_QUEUE = SHM_KIND_SIMPLE_QUEUE
KIND_SEMAPHORE = SHM_KIND_SEMAPHORE
KIND_BOUNDED_SEMAPHORE = SHM_KIND_BOUNDED_SEMAPHORE
KIND_EVENT = SHM_KIND_EVENT
KIND_CONDITION = SHM_KIND_CONDITION
KIND_BARRIER = SHM_KIND_BARRIER
KIND_RWLOCK = SHM_KIND_RWLOCK
KIND_INT64 = SHM_KIND_INT64
KIND_UINT64 = SHM_KIND_UINT64
KIND_CTYPES = SHM_KIND_CTYPES
KIND_NDARRAY = SHM_KIND_NDARRAY
UNLINK_LAST = SHM_UNLINK_LAST
ONE_PRODUCER = SHM_ONE_PRODUCER
ONE_CONSUMER = SHM_ONE_CONSUMER
SEMAPHORES = SHM_SEMAPHORES
COUNT_TASKS = SHM_COUNT_TASKS
GRANULE = SHM_GRANULE
RING_PLACES = SHM_RING_PLACES
LOCK_RAISES = SHM_LOCK_RAISES
LOCK_IS_LENT = SHM_LOCK_IS_LENT
SEMAPHORE_MAX = SHM_SEMAPHORE_MAX
NO_LOCK = SHM_NO_LOCK
OWN_LOCK = SHM_OWN_LOCK
SHARED_LOCK = SHM_SHARED_LOCK
FOREIGN_LOCK = SHM_FOREIGN_LOCK

cdef enum:
    CELL_SIZE = 128

CELL = CELL_SIZE

cdef shm_place NO_SEMAPHORE  # the futex

# How long a call spins before it lets other threads run; letting go and coming back costs more.
cdef uint32_t SPIN_WITH_GIL = 2000

cdef dict KIND_NAMES = {
    SHM_KIND_SEGMENT: "Segment",
    SHM_KIND_ARENA: "arena of small objects",
    SHM_KIND_LOCK: "Lock",
    SHM_KIND_RLOCK: "RLock",
    SHM_KIND_SEMAPHORE_LOCK: "SemaphoreLock",
    SHM_KIND_RING: "Ring",
    SHM_KIND_QUEUE: "Queue",
    SHM_KIND_JOINABLE_QUEUE: "JoinableQueue",
    SHM_KIND_SIMPLE_QUEUE: "SimpleQueue",
    SHM_KIND_SEMAPHORE: "Semaphore",
    SHM_KIND_BOUNDED_SEMAPHORE: "BoundedSemaphore",
    SHM_KIND_EVENT: "Event",
    SHM_KIND_CONDITION: "Condition",
    SHM_KIND_BARRIER: "Barrier",
    SHM_KIND_RWLOCK: "RWLock",
    SHM_KIND_INT64: "AtomicInt64",
    SHM_KIND_UINT64: "AtomicUInt64",
    SHM_KIND_CTYPES: "Value or Array",
    SHM_KIND_NDARRAY: "SharedArray",
}


def kind_name(kind):
    return KIND_NAMES.get(kind, f"unknown kind {kind}")


cdef double seconds_of(object timeout) except? -1:
    """A timeout as a number, before anything is touched: this may run the caller's code."""
    cdef double seconds
    if timeout is None:
        return INFINITY
    try:
        seconds = timeout
    except TypeError:
        raise TypeError(
            f"timeout: expected seconds or None, found {type(timeout).__name__}"
        ) from None
    if seconds != seconds:
        raise ValueError("timeout: expected seconds or None, found NaN")
    return max(seconds, 0.0)


def check_timeout(timeout):
    """TypeError or ValueError if it is none."""
    seconds_of(timeout)


cdef uint64_t deadline_after(double seconds) noexcept:
    """Absolute and monotonic; taken after the first failed check, so the fast path reads no clock."""
    return SHM_NEVER if seconds > 1e9 else shm_now() + <uint64_t>(seconds * 1e9)


cdef double seconds_until(uint64_t deadline) noexcept:
    if deadline == SHM_NEVER:
        return INFINITY
    return max(0.0, (<double>deadline - <double>shm_now()) / 1e9)


# How long a call that is not to block may wait for a side's lock: its holder works, if it runs.
cdef double A_MOMENT = 0.1


cdef int raise_status(int status) except -1:
    """The one place where an answer of the core becomes an exception."""
    if status == SHM_E_OS:
        PyErr_SetFromErrno(OSError)
    elif status == SHM_CLOSED:
        raise ClosedError("this handle is closed")
    elif status == SHM_SHUT_DOWN:
        raise ShutDown("the stream has been shut down")
    elif status == SHM_CORRUPT:
        raise CorruptError("a word in shared memory has a value that shmipc never writes")
    else:
        raise SystemError(f"unexpected status {status} of the native core")


include "attachment.pxi"
include "region.pxi"
include "mapping.pxi"
include "described.pxi"
include "cell.pxi"
include "lock.pxi"
include "sync.pxi"
include "ring.pxi"
include "queue.pxi"
