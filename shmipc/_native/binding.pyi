"""The binding as the Python half sees it; the docstrings here are what people and tools read.

Names with a leading underscore are for the classes above, which add the four doors.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, Self, SupportsIndex, TypeVar, overload

class Buffer(Protocol):
    """Anything with the buffer protocol; ``collections.abc.Buffer`` from Python 3.12 on."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

KIND_SEGMENT: int
KIND_ARENA: int
KIND_LOCK: int
KIND_RLOCK: int
KIND_SEMAPHORE_LOCK: int
KIND_RING: int
KIND_QUEUE: int
KIND_JOINABLE_QUEUE: int
KIND_SIMPLE_QUEUE: int
UNLINK_LAST: int
ONE_PRODUCER: int
ONE_CONSUMER: int
SEMAPHORES: int
COUNT_TASKS: int
GRANULE: int
RING_PLACES: int
LOCK_RAISES: int
LOCK_IS_LENT: int
SEMAPHORE_MAX: int
CELL: int
KIND_SEMAPHORE: int
KIND_BOUNDED_SEMAPHORE: int
KIND_EVENT: int
KIND_CONDITION: int
KIND_BARRIER: int
KIND_RWLOCK: int
KIND_INT64: int
KIND_UINT64: int
KIND_CTYPES: int
KIND_NDARRAY: int
NO_LOCK: int
OWN_LOCK: int
SHARED_LOCK: int
FOREIGN_LOCK: int

def kind_name(kind: int) -> str: ...
def file_size(kind: int, slots: int, body_size: int, payload_size: int) -> int: ...
def format_segment(
    fd: int,
    kind: int,
    flags: int,
    slots: int,
    body_size: int,
    payload_size: int,
    cookie: bytes,
    semaphores: bytes,
    semaphore_count: int,
) -> None: ...
def check_header(fd: int, shown: str) -> int: ...
def lock_door(fd: int) -> int | None: ...
def unlock_door(door: int) -> None: ...

PROTECT_READ: int
PROTECT_WRITE: int
PROTECT_EXECUTE: int
SHARED: int
PRIVATE: int
ANONYMOUS: int
HUGE_PAGES: int

def advice_numbers() -> dict[str, int]: ...
def secret_file() -> int: ...
def page_size() -> int: ...
def active_regions() -> int: ...
def active_bytes() -> int: ...
def forget_threads() -> None: ...
def guard_faults() -> None: ...
def unguard_faults() -> None: ...
def segment_region(attachment: Attachment, file: Any, writable: bool, stable: bool) -> Region: ...
def ring_body_size(slots: int) -> int: ...
def ring_parameters(attachment: Attachment) -> tuple[int, int, int, str]: ...
def format_ring(
    attachment: Attachment, capacity: int, max_items: int, flags: int, codec: bytes
) -> None: ...

class Attachment:
    fd: int
    shown: str
    on_rejoin: Callable[[], None] | None
    def __init__(self, fd: int, shown: str) -> None: ...
    @property
    def kind(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def cookie(self) -> bytes: ...
    @property
    def slots(self) -> int: ...
    @property
    def payload_size(self) -> int: ...
    @property
    def semaphores(self) -> list[str]: ...
    @property
    def joined(self) -> bool: ...
    def join(self, linked: bool) -> bool: ...
    def leave(self, path: str | None) -> bool: ...
    def ensure_joined(self) -> None: ...
    def adopt(self) -> None: ...
    def clear_body(self) -> None: ...
    def clear_cells(self, cell: int, cells: int) -> None: ...
    def anybody_alive(self) -> bool: ...
    def describe(self, identity: int) -> tuple[int, str] | None: ...
    def participants(self) -> list[tuple[int, int, bool, bool, int, str]]: ...

class Region:
    """A range of memory: what a view on a mapping is of, and what keeps it mapped."""

    length: int
    views: int
    writable_views: int
    viewed: bool
    readable: bool
    writable: bool
    file: Any
    def __init__(
        self,
        file: Any,
        fd: int,
        offset: int,
        length: int,
        reserve: int,
        protection: int,
        flags: int,
        *,
        page: int = 0,
        address: int = 0,
        stable: bool = False,
        file_reads: bool = False,
    ) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def address(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def page(self) -> int: ...
    @property
    def mixed(self) -> bool: ...
    @property
    def reserve(self) -> int: ...
    @property
    def faulty(self) -> bool: ...
    def unmap(self) -> None: ...
    def fill(self, data: bytes) -> None: ...
    def resize(self, length: int) -> None: ...
    def remap(self, length: int) -> None: ...
    def empty(self) -> None: ...
    def protect(self, at: int, length: int, protection: int) -> None: ...
    def advise(self, at: int, length: int, advice: int, inward: bool) -> None: ...
    def flush(self, at: int, length: int, how: int) -> None: ...
    def lock(self, at: int, length: int) -> None: ...
    def unlock(self, at: int, length: int) -> None: ...
    def prefault(self, at: int, length: int, write: bool) -> None: ...
    def resident(self, at: int, length: int) -> bytes: ...

class MappingCore:
    region: Region | None
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    @overload
    def __setitem__(self, key: SupportsIndex, value: SupportsIndex, /) -> None: ...
    @overload
    def __setitem__(self, key: slice, value: Buffer, /) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __contains__(self, what: object, /) -> bool: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def find(self, sub: Buffer, start: int | None = None, end: int | None = None) -> int:
        """Where ``sub`` stands first, from the position (or ``start``) on; -1 if nowhere."""

    def rfind(self, sub: Buffer, start: int | None = None, end: int | None = None) -> int:
        """Where ``sub`` stands last, from the position (or ``start``) on; -1 if nowhere."""

    def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes from the position on; without it, all that is left."""

    def read_byte(self) -> int:
        """The byte at the position; `ValueError` at the end."""

    def readline(self) -> bytes:
        """From the position to the end of the line, which is included."""

    def write(self, data: Buffer, /) -> int:
        """Over what is at the position; `ValueError` if there are not as many bytes left."""

    def write_byte(self, byte: int, /) -> None:
        """Over the byte at the position; `ValueError` at the end."""

    def seek(self, pos: int, whence: int = 0) -> int:
        """Moves the position, and returns it; `ValueError` outside of the bytes."""

    def seekable(self) -> bool:
        """True."""

    def tell(self) -> int:
        """The position."""

    def move(self, dest: int, src: int, count: int) -> None:
        """Copies bytes within; the two ranges may overlap."""

    def _bind(self, region: Region) -> None: ...
    def _exchange(self, old: Region, new: Region) -> None: ...
    def _unbind(self) -> bool: ...
    def _entered(self) -> Region: ...

class ReaderCore:
    inside: int
    idle: threading.Event | None
    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def __len__(self) -> int: ...
    def at(self, index: int, /) -> int:
        """One byte; `IndexError` outside."""

    def read_at(self, n: int, offset: int) -> bytes:
        """``n`` bytes from ``offset`` on; fewer at the end, and none after it."""

    def readinto_at(self, buffer: Buffer, offset: int) -> int:
        """The same into a writable buffer; how many there were."""

    def _bind(self, region: Region) -> None: ...
    def _shut(self) -> bool: ...
    def _unbind(self) -> None: ...

def check_timeout(timeout: object) -> None: ...
def description_cells(text: bytes) -> int: ...
def write_description(
    attachment: Attachment,
    cell: int,
    kind: int,
    size: int,
    lock: int,
    lock_cookie: bytes,
    lock_cell: int,
    text: bytes,
) -> None: ...
def read_description(
    attachment: Attachment, cell: int
) -> tuple[int, int, int, bytes, int, bytes]: ...

class MemoryCore:
    size: int
    writable: bool
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def address(self) -> int: ...
    def _bind_cells(self, attachment: Attachment, cell: int, size: int, writable: bool) -> None: ...
    def _bind_region(self, region: Region) -> None: ...
    def _unbind(self) -> bool: ...
    def _is_idle(self) -> bool: ...

class CellCore:
    def _bind(self, attachment: Attachment, cell: int, spin: int) -> None: ...
    def _unbind(self) -> bool: ...

class LockCore(CellCore):
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Takes the lock: True, or False if it could not be had at once (``block=False``) or
        within ``timeout`` seconds.

        If the holder has died, the lock is inherited, with an `OwnerDiedWarning`, or refused, with
        an `OwnerDiedError`; that is so for who waits and for who polls.  Signals are handled
        while it waits.
        """

    def release(self) -> None:
        """Gives it back; any thread and any process may.  `ValueError` if nobody holds it."""

    def locked(self) -> bool:
        """Whether a living process holds it now."""

    def __enter__(self) -> bool: ...
    def __exit__(self, *args: object) -> None: ...
    def _is_idle(self) -> bool: ...
    def _is_mine(self) -> bool: ...
    def _is_ours(self) -> bool: ...
    @property
    def _depth(self) -> int: ...
    def _owner(self) -> tuple[int, int, bool, int, str | None] | None: ...
    def _counts(self) -> tuple[int, int, int, int, float]: ...
    def _recover(self, acquire: bool) -> bool: ...

class RLockCore(LockCore): ...

def set_lock_flags(attachment: Attachment, cell: int, flags: int) -> None: ...
def lock_flags(attachment: Attachment, cell: int) -> int: ...

class SemaphoreCore(CellCore):
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Takes a unit: True, or False if there was none at once (``block=False``) or within
        ``timeout`` seconds."""

    def release(self) -> None:
        """Gives a unit back.  `ValueError` if there would be too many."""

    def get_value(self) -> int:
        """How many units are there to take."""

    def __enter__(self) -> bool: ...
    def __exit__(self, *args: object) -> None: ...
    def _is_idle(self) -> bool: ...

class BoundedSemaphoreCore(SemaphoreCore):
    @property
    def _bound(self) -> int: ...

class EventCore(CellCore):
    def is_set(self) -> bool:
        """Whether the flag is set."""

    def set(self) -> None:
        """Sets the flag and lets everybody go on who waits."""

    def clear(self) -> None:
        """Clears the flag."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the flag is set, also if it is cleared again at once; False after
        ``timeout`` seconds."""

    def _is_idle(self) -> bool: ...

class ConditionCore(CellCore):
    def wait(self, timeout: float | None = None) -> bool:
        """Releases the lock, waits to be notified, and acquires the lock again, as deep as it was:
        True, or False after ``timeout`` seconds.

        `AssertionError` if this thread does not hold the lock.  `BusyError` if more threads wait
        than there is room for.  A signal handler's exception comes when the lock is held again; a
        second one comes at once, without the lock.
        """

    def notify(self, n: int = 1) -> None:
        """Wakes ``n`` of those who wait, the longest waiting first.  `AssertionError` if this
        thread does not hold the lock."""

    def notify_all(self) -> None:
        """Wakes all who wait."""

    def _bind_lock(self, lock: LockCore) -> None: ...
    def _is_idle(self) -> bool: ...
    def _waiting(self) -> int: ...

def set_condition_lock(
    attachment: Attachment, cell: int, cookie: bytes, lock_cell: int
) -> None: ...
def condition_lock(attachment: Attachment, cell: int) -> tuple[bytes, int] | None: ...

class BarrierCore(CellCore):
    def wait(self, timeout: float | None = None) -> int:
        """Waits until as many have come as there are parties: the number as which this one came,
        from 0.

        `BrokenBarrierError` if one of them has died, waited longer than ``timeout`` seconds (which
        breaks the barrier for all) or called ``abort()``, if the action raised, or the barrier was
        reset.
        """

    def reset(self) -> None:
        """Makes it as new; who waits gets `BrokenBarrierError`."""

    def abort(self) -> None:
        """Breaks it, until ``reset()``."""

    @property
    def parties(self) -> int:
        """How many have to come."""

    @property
    def n_waiting(self) -> int:
        """How many have come and wait for the others."""

    @property
    def broken(self) -> bool:
        """Whether it is broken; it is once somebody who had come is dead."""

    def _bind_action(self, action: Callable[[], Any] | None, timeout: float | None) -> None: ...
    def _is_idle(self) -> bool: ...

class RWLockCore(CellCore):
    def acquire_read_lock(self, block: bool = True, timeout: float | None = None) -> bool:
        """Takes it for reading: True, or False if it could not be had at once (``block=False``)
        or within ``timeout`` seconds."""

    def release_read_lock(self) -> None:
        """`ValueError` if this process does not have it for reading."""

    def acquire_write_lock(self, block: bool = True, timeout: float | None = None) -> bool:
        """Takes it for writing, as ``acquire_read_lock`` does for reading."""

    def release_write_lock(self) -> None:
        """`ValueError` if this process does not have it for writing."""

    def _is_idle(self) -> bool: ...
    def _readers(self) -> int: ...
    def _owner(self) -> tuple[int, int, bool, int, str | None] | None: ...
    def _counts(self) -> tuple[int, int, int, int, float]: ...
    def _recover(self, acquire: bool) -> bool: ...

class NumberCore(CellCore):
    def load(self) -> int:
        """The number."""

    def store(self, value: int) -> None:
        """Replaces the number."""

    def exchange(self, value: int) -> int:
        """Replaces the number; what it was."""

    def compare_exchange(self, expected: int, desired: int) -> bool:
        """Replaces it if it is ``expected``; whether it was."""

    def add(self, amount: int = 1) -> int:
        """Adds to it; the sum.  `OverflowError` if that does not fit, and nothing has changed."""

    def wait(self, seen: int, timeout: float | None = None) -> int:
        """Waits until the number is another than ``seen``; what it is then, or ``seen`` after
        ``timeout`` seconds."""

    def _is_idle(self) -> bool: ...

class UnsignedCore(NumberCore): ...

def format_cell(attachment: Attachment, cell: int, kind: int, value: int) -> None: ...
def first_word(attachment: Attachment, kind: int) -> int: ...
def sizes_of_cells(slots: int) -> dict[int, int]: ...

class RingBase:
    def shutdown(self, immediate: bool = False) -> None:
        """Ends the stream for everybody: a put raises `ShutDown`, a get takes what is there and
        then raises it; with ``immediate=True`` it raises at once."""

    def release_producer(self) -> None:
        """Hands over the producers' side, if this process has it as the only one."""

    def release_consumer(self) -> None:
        """Hands over the consumers' side, if this process has it as the only one."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Self: ...
    @property
    def capacity(self) -> int:
        """Bytes for messages and their headers."""

    @property
    def max_message(self) -> int:
        """Bytes of the longest message that can be put."""

    def _bind(self, attachment: Attachment, spin: int) -> None: ...
    def _unbind(self) -> bool: ...
    def _counts(self) -> tuple[int, int, int]: ...
    def _waits(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]: ...

class RingCore(RingBase):
    def put(self, data: Buffer, block: bool = True, timeout: float | None = None) -> None:
        """Puts one message, the bytes of any contiguous buffer.

        Waits while there is no room, up to ``timeout`` seconds; then, or at once with
        ``block=False``, `Full`.  `ValueError` if it is longer than ``max_message``, `ShutDown`
        after ``shutdown()``, `BusyError` if another living process is the one producer.
        """

    def get(self, block: bool = True, timeout: float | None = None) -> bytes:
        """Takes the oldest message.

        Waits while there is none, up to ``timeout`` seconds; then, or at once with
        ``block=False``, `Empty`.  `ShutDown` if there is none and there will be none.
        """

    def try_put(self, data: Buffer) -> bool:
        """Puts one message if there is room: True."""

    def try_get(self) -> bytes | None:
        """The oldest message, or None."""

    def put_many(
        self, messages: Iterable[Buffer], block: bool = True, timeout: float | None = None
    ) -> int:
        """Puts all messages, in order, with as few commits and wakes as their sizes allow, and
        answers how many.  When the time is over, `Full`, whose ``count`` says how many were put."""

    def get_many(
        self, max: int, min: int = 1, timeout: float | None = None, linger: float = 0.0
    ) -> list[bytes]:
        """Takes up to ``max`` messages: waits up to ``timeout`` seconds for ``min`` of them, then
        ``linger`` seconds for more.  Fewer than ``min`` when the time is over or the stream ends;
        `Empty` or `ShutDown` if there was none."""

    def drain(self) -> list[bytes]:
        """Takes all that is there, without waiting."""

    def __next__(self) -> bytes: ...

_T = TypeVar("_T")

class QueueCore(RingBase, Generic[_T]):
    waiting: bool
    _dumps: Callable[[Any], bytes]
    _loads: Callable[[bytes], Any]
    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None:
        """Puts one object, encoded now.

        With ``maxsize`` it waits while so many are in the queue, up to ``timeout`` seconds; then,
        or at once with ``block=False``, `Full`.
        """

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        """Takes the oldest object.

        Waits while there is none, up to ``timeout`` seconds; then, or at once with
        ``block=False``, `Empty`.
        """

    def put_many(
        self, objects: Iterable[_T], block: bool = True, timeout: float | None = None
    ) -> int:
        """Puts all objects, in order; as ``put``, with fewer commits and wakes.  On `Full` its
        ``count`` says how many were put."""

    def get_many(
        self, max: int, min: int = 1, timeout: float | None = None, linger: float = 0.0
    ) -> list[_T]:
        """Takes up to ``max`` objects: waits up to ``timeout`` seconds for ``min`` of them, then
        ``linger`` seconds for more.  Fewer than ``min`` when the time is over or the stream ends;
        `Empty` or `ShutDown` if there was none."""

    def drain(self) -> list[_T]:
        """Takes all that is there, without waiting."""

    def __next__(self) -> _T: ...
    def _offer(
        self, tag: int, data: bytes, block: bool, seconds: float, wait_for_bytes: bool
    ) -> bool: ...
    def _flush(self, line: deque[tuple[int, bytes]]) -> None: ...
    def _wait_for_room(self, length: int, seconds: float, waited: bool) -> bool: ...
    def _check_length(self, length: int) -> None: ...
    def _await(self, block: bool, seconds: float) -> None: ...
    def _unwait(self, count: int) -> None: ...
    def _task_done(self) -> None: ...
    def _join(self) -> None: ...
