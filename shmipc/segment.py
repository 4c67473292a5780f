"""The four doors through which every shared object is made and found, and the plainest of them.

``X(...)`` is anonymous, ``X.create(name)`` makes a name, ``X.attach(name)`` finds it and
``X.open(name)`` does whichever is needed.  Attaching checks before it writes and never unlinks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.backing import Backing, Seal, seals_of
from shmipc.descriptors import ticket_for
from shmipc.errors import BrokenError, BusyError, ClosedError, LayoutError
from shmipc.mapping import MappedBytes
from shmipc.membership import (
    ATTEMPTS,
    Membership,
    Plan,
    check_kind,
    create_semaphores,
    enter_descriptor,
    enter_named,
    new_anonymous,
    new_named,
    unlink_semaphores,
)
from shmipc.names import PREFIX, Name, check_private, named_in_errors, path_of

__all__ = ["Participant", "Segment", "SharedObject", "check_choice", "check_size", "check_spin"]

MAX_SIZE = 1 << 48
ADAPTIVE = 0xFFFFFFFF


class Participant(NamedTuple):
    """One process that uses a segment, as it described itself when it joined."""

    pid: int
    alive: bool
    slot: int
    command: str
    me: bool


def _receive(
    cls: type[SharedObject], ticket: Any, cookie: bytes, path: str | None, local: dict[str, Any]
) -> SharedObject:
    def check(attachment: Attachment) -> None:
        if attachment.cookie != cookie:
            raise BrokenError(f"the {cls.__name__} sent is gone: its descriptor is another's")

    shown = f"a {cls.__name__} from another process"
    return cls._over(enter_descriptor(ticket.detach(), path, shown, check), **local)


class _Unlink:
    """``obj.unlink()`` and ``X.unlink(name)``."""

    def __get__(self, obj: SharedObject | None, cls: type[SharedObject]) -> Callable[..., None]:
        return cls._unlink_name if obj is None else obj._unlink_own


class SharedObject:
    """The four doors, and the way to other processes.

    A class gives ``_Parameters`` (a dataclass whose fields are those of its constructor, checked
    as they are made), ``_plan`` (what segment they ask for), ``_read`` (which ones its
    segment has) and ``_set_up`` (puts the handle over an attachment).
    """

    _kinds: tuple[int, ...]  # of segments that it may stand in
    _Parameters: ClassVar[type[Any]]
    _local: tuple[str, ...] = ()  # parameters of the handle, not of the segment
    _required: tuple[str, ...] = ()  # the first parameters, which have a default for attach() only
    _membership: Membership | None = None
    _closed = True

    @classmethod
    def _plan(cls, parameters: Any) -> Plan:
        raise NotImplementedError

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        """The parameters that stand in a segment, by name."""
        return {}

    @classmethod
    def _facts(cls, parameters: Any) -> dict[str, Any]:
        """``parameters`` as they would stand in a segment."""
        return {field.name: getattr(parameters, field.name) for field in fields(parameters)}

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        raise NotImplementedError

    # The binding's: the core's handle is closed from now on.  True if the hold may go at once; if
    # not, a thread is still in the core, and the last one to come back calls _let_go().
    _unbind: Callable[[], bool]

    # Doors.

    def _start(self, parameters: Any) -> None:
        """The first door: anonymous."""
        self._enter(new_anonymous(self._plan(parameters)), self._local_of(parameters))

    @classmethod
    def create(
        cls,
        name: Name,
        *args: Any,
        mode: int = 0o600,
        unlink: Literal["last"] | None = None,
        replace: Literal["dead"] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Makes a new one called ``name``; other arguments are the constructor's.

        ``mode`` are the permissions of the name.  With ``unlink="last"`` the name goes with its
        last user, else it stays until it is unlinked.  With ``replace="dead"`` a name is taken
        over that no living process uses; otherwise one that exists is `FileExistsError`.
        """
        for missing in set(cls._required[len(args) :]) - set(kwargs):
            raise TypeError(f"{cls.__name__}: missing a required argument: {missing!r}")
        parameters = cls._Parameters(*args, **kwargs)
        check_choice("unlink", unlink, (None, "last"))
        check_choice("replace", replace, (None, "dead"))
        _check_mode(mode)
        membership = new_named(
            name, cls._plan(parameters), mode, unlink == "last", replace == "dead"
        )
        return cls._over(membership, **cls._local_of(parameters))

    @classmethod
    def attach(
        cls, name: Name, timeout: float | None = None, *, mode: int = 0o600, **local: Any
    ) -> Self:
        """Finds the one called ``name``; waits up to ``timeout`` seconds for it to appear, so that
        programs may start in any order.

        `FileNotFoundError` if there is none, `LayoutError` or `CorruptError` if it is not what
        was expected, `PermissionError` if it is another user's or others may write to it
        (``mode=0o660`` admits the group).  A failed attach leaves everything as it was.
        """
        unknown = set(local) - set(cls._local)
        if unknown:
            raise TypeError(f"{sorted(unknown)}: expected none of the segment's own parameters")
        deadline = None if timeout is None else time.monotonic() + timeout
        return cls._find(name, cls._Parameters(**local), set(), mode, deadline)

    @classmethod
    def _find(
        cls, name: Name, parameters: Any, given: set[str], mode: int, deadline: float | None
    ) -> Self:
        """Attaches, if what is there agrees with the parameters given."""
        local = cls._local_of(parameters)
        facts = cls._facts(parameters)
        expected = {key: facts[key] for key in given | set(local)}
        check = partial(cls._check, expected, os.fspath(name))
        _check_mode(mode)
        pause = 0.001
        while True:
            try:
                return cls._over(enter_named(name, mode, check), **local)
            except FileNotFoundError:
                if deadline is None or time.monotonic() >= deadline:
                    raise
            time.sleep(min(pause, max(deadline - time.monotonic(), 0)))
            pause = min(pause * 2, 0.05)

    @classmethod
    def open(cls, name: Name, *args: Any, mode: int = 0o600, **kwargs: Any) -> Self:
        """Attaches to ``name``, or creates it.  Parameters that are given and do not agree with
        what is there are a `LayoutError`."""
        naming = {key: kwargs.pop(key) for key in ("unlink", "replace") if key in kwargs}
        parameters = cls._Parameters(*args, **kwargs)
        given = {f.name for f, _ in zip(fields(cls._Parameters), args, strict=False)} | set(kwargs)
        for attempt in range(ATTEMPTS):
            try:
                return cls._find(name, parameters, given, mode, None)
            except FileNotFoundError:
                try:
                    return cls.create(name, *args, mode=mode, **naming, **kwargs)
                except FileExistsError:
                    if attempt == ATTEMPTS - 1:  # a link to nowhere is there and is not
                        raise
            time.sleep(0.001)
        raise AssertionError("unreachable")

    @classmethod
    def _check(cls, expected: dict[str, Any], shown: str, attachment: Attachment) -> None:
        """Before anything is written to a segment that was found."""
        check_kind(attachment.kind, cls._kinds, shown)
        found = cls._read(attachment)
        for name in expected.keys() & found.keys():
            if expected[name] != found[name]:
                raise LayoutError(
                    f"{shown}: expected {name}={expected[name]!r}, found {found[name]!r}"
                )

    unlink = _Unlink()

    @classmethod
    def _unlink_name(cls, name: Name, cookie: bytes | None = None) -> None:
        """Removes the name; who is attached stays attached."""
        path = path_of(name)
        with named_in_errors(name):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                attachment = Attachment(fd, os.fspath(name))
                check_kind(attachment.kind, cls._kinds, os.fspath(name))
                if cookie not in (None, attachment.cookie):
                    message = "the name is another object's by now"
                    raise FileNotFoundError(errno.ENOENT, message, os.fspath(name))
                os.unlink(path)
                if not attachment.anybody_alive():
                    unlink_semaphores(attachment)
            finally:
                os.close(fd)

    def _unlink_own(self) -> None:
        """Removes this object's name; who is attached stays attached."""
        membership = self._open_membership()
        if membership.path is None:
            raise ValueError(f"an anonymous {type(self).__name__} has no name to unlink")
        self._unlink_name(Path(membership.path), membership.attachment.cookie)

    @classmethod
    def recover(cls, name: Name) -> None:
        """Declares a file usable that was in use when the machine went down.

        What it holds may be half written, so a queue or ring is emptied and a lock freed; numbers
        and the bytes of a `Segment` are left as they are, for you to judge.  `BusyError` if a
        living process uses it.
        """
        cls._recover_name(name)

    @classmethod
    def _recover_name(cls, name: Name) -> None:
        path = path_of(name)
        with named_in_errors(name):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                check_private(fd, os.fspath(name), 0o600)
                attachment = Attachment(fd, os.fspath(name))
                check_kind(attachment.kind, cls._kinds, os.fspath(name))
                if attachment.anybody_alive():
                    raise BusyError(f"{os.fspath(name)}: a living process uses it")
                cls._make_body_anew(attachment)
                create_semaphores(attachment, stat.S_IMODE(os.fstat(fd).st_mode))
                attachment.adopt()
            finally:
                os.close(fd)

    @classmethod
    def _make_body_anew(cls, attachment: Attachment) -> None:
        attachment.clear_body()

    # The handle.

    @classmethod
    def _over(cls, membership: Membership, **local: Any) -> Self:
        handle = cls.__new__(cls)
        handle._enter(membership, local)
        return handle

    def _enter(self, membership: Membership, local: dict[str, Any]) -> None:
        self._membership = membership
        try:
            check_kind(membership.attachment.kind, self._kinds, type(self).__name__)
            self._set_up(membership.attachment, local)
        except BaseException:
            self._let_go()
            raise
        self._closed = False

    def _let_go(self) -> None:
        membership, self._membership = self._membership, None
        if membership is not None:
            membership.let_go()

    @classmethod
    def _local_of(cls, parameters: Any) -> dict[str, Any]:
        return {name: getattr(parameters, name) for name in cls._local}

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._closed

    def _open_membership(self) -> Membership:
        if self._closed or self._membership is None:
            raise ClosedError("this handle is closed")
        return self._membership

    @property
    def path(self) -> str | None:
        """Where the segment lies; None if it is anonymous, or closed."""
        return None if self._closed else self._open_membership().path

    @property
    def name(self) -> str | None:
        """The plain name, or the path; None if it is anonymous."""
        if self.path is None:
            return None
        base = os.path.basename(self.path)
        if base.startswith(PREFIX) and self.path == path_of(base.removeprefix(PREFIX)):
            return base.removeprefix(PREFIX)
        return self.path

    def participants(self) -> list[Participant]:
        """The processes that use the segment: those that live, and those whose death has left
        their slot as it was."""
        attachment = self._open_membership().attachment
        attachment.ensure_joined()
        return [
            Participant(pid, alive, slot, command, me)
            for slot, pid, alive, me, _, command in attachment.participants()
        ]

    def close(self) -> None:
        """Lets go of this process's hold.  Views stay valid; closing twice does nothing."""
        if not self._closed:
            self._closed = True
            if self._unbind():
                self._let_go()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        membership = self._open_membership()
        membership.attachment.ensure_joined()
        arguments = (ticket_for(membership.fd), membership.attachment.cookie, membership.path)
        return _receive, (type(self), *arguments, self._travelling())

    def _travelling(self) -> dict[str, Any]:
        """The handle's own parameters, for the one that is made of it elsewhere."""
        return {}

    def __repr__(self) -> str:
        state = "closed" if self.closed else self.name or "anonymous"
        return f"<{type(self).__name__} {state}>"


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        expected = " or ".join(map(repr, choices))
        raise ValueError(f"{name}: expected {expected}, found {value!r}")


def check_spin(spin: float | None) -> int:
    """The budget for the core: nanoseconds, or the mark for adaptive."""
    if spin is None:
        return ADAPTIVE
    if isinstance(spin, bool) or not isinstance(spin, (int, float)):
        raise TypeError(f"spin: expected microseconds or None, found {type(spin).__name__}")
    if not 0 <= spin <= 1e6:
        raise ValueError(f"spin: expected 0 to 1000000 microseconds, found {spin}")
    return int(spin * 1000)


def _check_mode(mode: int) -> None:
    if not isinstance(mode, int) or not 0o600 <= mode <= 0o777 or mode & 0o600 != 0o600:
        raise ValueError(f"mode: expected permissions with at least 0o600, found {mode!r}")


def check_size(name: str, value: object, least: int = 1) -> int:
    """``value`` as a number of bytes."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an int, found {type(value).__name__}")
    size = cast(Any, value).__index__()
    if not least <= size <= MAX_SIZE:
        raise ValueError(f"{name}: expected {least} to {MAX_SIZE} bytes, found {size}")
    return cast(int, size)


@dataclass(frozen=True)
class _SegmentParameters:
    size: int = 1
    access: Literal["r", "rw"] = "rw"

    def __post_init__(self) -> None:
        check_size("size", self.size)
        check_choice("access", self.access, ("r", "rw"))


class Segment(MappedBytes, SharedObject):
    """``size`` bytes of shared memory, zeroed, with everything that a `Mapping` does with its own.

    ``memoryview(segment)``, ``segment.buf`` and NumPy arrays over either keep the memory until the
    last of them goes, whether the segment has been closed or not.  The memory is committed when it
    is made: too much is ``OSError(ENOSPC)`` then, not a SIGBUS later.  With ``access="r"`` this
    handle, and every view on it, only reads.
    """

    _kinds = (binding.KIND_SEGMENT,)
    _Parameters = _SegmentParameters
    _required = ("size",)
    _local = ("access",)

    def __init__(self, size: int, *, access: Literal["r", "rw"] = "rw") -> None:
        self._start(_SegmentParameters(size, access))

    @classmethod
    def _plan(cls, parameters: _SegmentParameters) -> Plan:
        return Plan(binding.KIND_SEGMENT, payload_size=parameters.size)

    @classmethod
    def _read(cls, attachment: Attachment) -> dict[str, Any]:
        return {"size": attachment.payload_size}

    def _set_up(self, attachment: Attachment, local: dict[str, Any]) -> None:
        self._access = local.get("access", "rw")
        behind = Backing(attachment.fd, attachment.shown)
        stable = Seal.SHRINK in seals_of(attachment.fd)
        self._bind(binding.segment_region(attachment, behind, self._access == "rw", stable))

    def _travelling(self) -> dict[str, Any]:
        return {"access": self._access}

    @property
    def buf(self) -> memoryview:
        """The bytes, as a view."""
        return memoryview(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
