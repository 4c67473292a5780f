"""Descriptors on their way to another process: pickled, or over a Unix socket."""

from __future__ import annotations

import os
import socket
import sys
import weakref
from typing import Any

from shmipc.errors import BrokenError, LayoutError

__all__ = ["receive_descriptor", "send_descriptor", "ticket_for"]


class _SentDescriptor:
    """A descriptor as the receiver finds it: in the table of the process that sent it."""

    def __init__(self, fd: int, flags: int) -> None:
        self.pid = os.getpid()
        self.fd = fd
        self.flags = flags

    def detach(self) -> int:
        try:
            return os.open(f"/proc/{self.pid}/fd/{self.fd}", self.flags | os.O_CLOEXEC)
        except OSError as error:
            raise BrokenError(
                f"expected descriptor {self.fd} of process {self.pid}, which sent this object, "
                f"found {error.strerror}: the sender must keep it open until it is received"
            ) from None


_inherited: weakref.WeakKeyDictionary[Any, dict[int, Any]] = weakref.WeakKeyDictionary()


def ticket_for(fd: int, flags: int = os.O_RDWR) -> Any:
    """What to pickle for a descriptor: while a process is being started, the descriptor goes along
    (once, however many objects stand on it); otherwise the receiver reopens ours with ``flags``."""
    for package in ("multiprocessing", "multiprocess"):
        context = sys.modules.get(f"{package}.context")
        popen = context and context.get_spawning_popen()
        if popen is not None:
            tickets = _inherited.setdefault(popen, {})
            if fd not in tickets:
                tickets[fd] = sys.modules[f"{package}.reduction"].DupFd(fd)
            return tickets[fd]
    return _SentDescriptor(fd, flags)


def send_descriptor(sock: socket.socket, message: bytes, fd: int) -> None:
    """One descriptor with a message of a length that the other side knows."""
    sent = socket.send_fds(sock, [message], [fd])
    while sent < len(message):
        sent += sock.send(message[sent:])


def receive_descriptor(sock: socket.socket, size: int) -> tuple[bytes, int]:
    """The message of ``size`` bytes and its descriptor, which is the caller's; what came in excess
    is closed."""
    message, fds, _, _ = socket.recv_fds(sock, size, 1)
    try:
        while message and len(message) < size:
            more = sock.recv(size - len(message))
            if not more:
                break
            message += more
        if len(message) != size or len(fds) != 1:
            raise LayoutError(
                f"expected {size} bytes and a descriptor from the socket, found {len(message)} "
                f"bytes and {len(fds)} descriptors"
            )
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds[0]
