"""This process as a user of segments: making them, finding them, joining and leaving.

There is one membership for each segment and process, however many handles stand on it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from shmipc._native import binding
from shmipc._native.binding import Attachment
from shmipc.backing import Seal, add_seals
from shmipc.errors import LayoutError, NameGone
from shmipc.memory import commit_memory
from shmipc.names import Draft, Name, check_private, named_in_errors, path_of

ATTEMPTS = 100
"""Times that a name is looked up again when it comes and goes at the same moment."""

SLOTS = 256
"""Processes that may use one segment at the same time."""


@dataclass(frozen=True)
class Plan:
    """What a new segment is to be.  ``format`` writes the body before anybody can see it."""

    kind: int
    body_size: int = 0
    payload_size: int = 0
    semaphores: int = 0
    format: Callable[[Attachment], None] = field(default=lambda attachment: None)


Check = Callable[[Attachment], None]


class Membership:
    """This process as a user of one segment: its mapping, its descriptor and its slot.

    There is one for each segment and process, however many handles stand on it; ``users`` counts
    them, and the last one leaves.
    """

    def __init__(self, fd: int, path: str | None, shown: str) -> None:
        self.attachment = Attachment(fd, shown)
        self.attachment.on_rejoin = _leave_at_exit
        self.fd = fd
        self.path = path
        self.users = 1  # who asked for it
        self.file = _file_of(fd)

    def join(self, linked: bool) -> Self:
        """Takes a participant slot; waits while another process is in the door.  ``linked``: it
        was found by its name, and `NameGone` if that has been removed since."""
        while not self.attachment.join(linked):
            time.sleep(0.001)
        _leave_at_exit()
        _memberships[self.file] = self
        return self

    def leave(self) -> None:
        """Gives the slot back; views keep the mapping.  A child of fork that never used what it
        inherited has nothing to give back."""
        if self.fd < 0:
            return
        last = self.attachment.leave(self.path)
        fd, self.fd = self.fd, -1
        with contextlib.suppress(OSError):  # closed by its number, by somebody else
            if _file_of(fd) == self.file:
                if last and os.fstat(fd).st_nlink == 0:
                    unlink_semaphores(self.attachment)
                os.close(fd)

    def another(self) -> Self:
        """One handle more."""
        with _guard:
            self.users += 1
        return self

    def let_go(self) -> None:
        """One handle less."""
        with _guard:
            self.users -= 1
            if self.users == 0:
                self.leave()


_memberships: weakref.WeakValueDictionary[tuple[int, int], Membership] = (
    weakref.WeakValueDictionary()
)
_guard = threading.RLock()
_exit_hooked_in = 0


def _file_of(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def run_at_exit(function: Callable[[], None], priority: int) -> None:
    """At the end of this process, also of a child of multiprocessing or multiprocess, which leaves
    by ``os._exit`` and runs only what is registered with its package (higher priority first)."""
    atexit.register(function)
    for package in ("multiprocessing", "multiprocess"):
        util = sys.modules.get(f"{package}.util")
        if util is not None:
            finalize = partial(util.Finalize, None, function, exitpriority=priority)
            finalize()
            # Its children forget what was registered before their own start.
            util.register_after_fork(function, lambda _, again=finalize: again())


def _leave_at_exit() -> None:
    global _exit_hooked_in
    if _exit_hooked_in != os.getpid():
        _exit_hooked_in = os.getpid()
        run_at_exit(_leave_all, -100)


def _leave_all() -> None:
    for membership in list(_memberships.values()):
        membership.leave()


def _forget_locks() -> None:
    global _guard
    _guard = threading.RLock()


os.register_at_fork(after_in_child=_forget_locks)


def unlink_semaphores(attachment: Attachment) -> None:
    """Removes the names of the posix semaphores that belong to the segment."""
    if not attachment.semaphores:
        return
    import posix_ipc

    for name in attachment.semaphores:
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(name)


def create_semaphores(attachment: Attachment, mode: int) -> None:
    """Makes them anew; all or none."""
    if not attachment.semaphores:
        return
    import posix_ipc

    unlink_semaphores(attachment)
    try:
        for name in attachment.semaphores:
            posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=mode, initial_value=0).close()
            with contextlib.suppress(FileNotFoundError):  # where the C library keeps them
                os.chmod(f"/dev/shm/sem.{name[1:]}", mode)  # the umask is not the user's word
    except BaseException:
        unlink_semaphores(attachment)
        raise


def _format(fd: int, plan: Plan, flags: int, shown: str) -> None:
    """Makes the nameless file a whole segment."""
    size = binding.file_size(plan.kind, SLOTS, plan.body_size, plan.payload_size)
    commit_memory(fd, size, shown)
    cookie = secrets.token_bytes(16)
    prefix = f"/shmipc-{cookie.hex()[:20]}-" if plan.semaphores else ""
    binding.format_segment(
        fd,
        plan.kind,
        flags,
        SLOTS,
        plan.body_size,
        plan.payload_size,
        cookie,
        prefix.encode(),
        plan.semaphores,
    )


def _enter_new(fd: int, plan: Plan, path: str | None, shown: str, mode: int) -> Membership:
    """Joins before the name appears: there is no moment without a user."""
    membership = Membership(fd, path, shown)
    plan.format(membership.attachment)
    create_semaphores(membership.attachment, mode)
    try:
        return membership.join(linked=False)
    except BaseException:
        unlink_semaphores(membership.attachment)
        raise


def new_anonymous(plan: Plan) -> Membership:
    """A segment on a memfd, which goes with its last user."""
    fd = os.memfd_create("shmipc", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _format(fd, plan, 0, "anonymous memory")
        add_seals(fd, Seal.SHRINK)  # nobody can take the memory away
        return _enter_new(fd, plan, None, "anonymous memory", 0o600)
    except BaseException:
        os.close(fd)
        raise


def new_named(name: Name, plan: Plan, mode: int, unlink_last: bool, replace: bool) -> Membership:
    """A segment that appears under ``name`` when it is whole."""
    path = path_of(name)
    shown = os.fspath(name)
    with named_in_errors(name):
        if os.path.lexists(path) and not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), shown)
        draft = Draft(path, mode)
        try:
            return _fill_and_publish(draft, path, shown, plan, mode, unlink_last, replace)
        finally:
            draft.discard()


def _fill_and_publish(
    draft: Draft,
    path: str,
    shown: str,
    plan: Plan,
    mode: int,
    unlink_last: bool,
    replace: bool,
) -> Membership:
    try:
        _format(draft.fd, plan, binding.UNLINK_LAST if unlink_last else 0, shown)
        membership = _enter_new(draft.fd, plan, path, shown, mode)
    except BaseException:
        os.close(draft.fd)
        raise
    try:
        _publish(draft, path, shown, replace)
    except BaseException:
        membership.path = None  # the name that is there is another's
        membership.let_go()
        raise
    return membership


def _publish(draft: Draft, path: str, shown: str, replace: bool) -> None:
    while True:
        try:
            return draft.link()
        except FileExistsError:
            if not replace:
                raise
        _remove_dead(path, shown)


def _remove_dead(path: str, shown: str) -> None:
    """Removes the segment at ``path`` if nobody who lives uses it: under its door, so that nobody
    joins it meanwhile."""
    try:
        old = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        attachment = Attachment(old, shown)
        while (door := binding.lock_door(old)) is None:
            time.sleep(0.001)
        try:
            if attachment.anybody_alive():
                raise FileExistsError(errno.EEXIST, "a living process uses it", shown)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(old)):
                    unlink_semaphores(attachment)
                    os.unlink(path)
        finally:
            binding.unlock_door(door)
    finally:
        os.close(old)


def enter_descriptor(
    fd: int, path: str | None, shown: str, check: Check, *, linked: bool = False
) -> Membership:
    """The segment behind ``fd``, which becomes the membership's, or is closed.  ``check`` raises
    if it is not what was expected, before anything is written to it."""
    try:
        with _guard:
            known = _memberships.get(_file_of(fd))
            if known is None or known.fd < 0:
                membership = Membership(fd, path, shown)
                check(membership.attachment)
                return membership.join(linked)
            check(known.attachment)
            known.users += 1
            try:
                known.attachment.ensure_joined()  # in a child of fork it may not have been used yet
            except BaseException:
                known.let_go()
                raise
    except BaseException:
        os.close(fd)
        raise
    if fd != known.fd:
        os.close(fd)
    return known


def enter_named(name: Name, mode: int, check: Check) -> Membership:
    """Finds the segment ``name``; checks everything before it writes anything."""
    path = path_of(name)
    shown = os.fspath(name)
    for _ in range(ATTEMPTS):
        with named_in_errors(name):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                check_private(fd, shown, mode)
            except BaseException:
                os.close(fd)
                raise
            try:
                return enter_descriptor(fd, path, shown, check, linked=True)
            except NameGone:
                continue  # removed, or replaced, between the look and the door
    raise FileNotFoundError(errno.ENOENT, "it has no name any more", shown)


def check_kind(found: int, expected: tuple[int, ...], shown: str) -> None:
    if found not in expected:
        wanted = binding.kind_name(expected[0])
        raise LayoutError(f"{shown}: expected a {wanted}, found a {binding.kind_name(found)}")
