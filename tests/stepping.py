"""A call in a forked child that this process takes through its machine instructions (ptrace).

The native core is killed at every place that matters by tests/native/kill_driver.c.  This is for
whole Python calls, of which there are too many instructions to try them all.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Forked
from isolation import stat_of

from shmipc._native import binding

TRACEME, SINGLESTEP, SETOPTIONS, GETREGSET = 0, 9, 0x4200, 0x4204
EXITKILL = 0x100000
NT_PRSTATUS = 1
PC = {"x86_64": 16, "aarch64": 32}  # which of the registers
YIELDS = 20  # to the child: nearly always it has stopped again after the first
ASLEEP_LOOKS = 4  # in a row: a call may sleep for a moment without waiting for anybody

Range = tuple[int, int]


class Stepped(Forked):
    """`before(*args)` and `call(*args)` in a child, which stands before the call when this returns.

    Fork from a process with one processor, and with spin=0: then the way is nearly the same each
    time.
    """

    def __init__(self, before: Callable[..., Any], call: Callable[..., Any], *args: Any) -> None:
        super().__init__(_offer, before, call, *args)
        self.steps = 0
        self.native_steps = 0
        self.ended = False
        self._native = native_code()
        self._wait()
        _ptrace(SETOPTIONS, self.pid, 0, EXITKILL)

    def step(self) -> bool:
        """One instruction; False if it is a system call in which the child sleeps now."""
        _ptrace(SINGLESTEP, self.pid)
        for _ in range(YIELDS):
            os.sched_yield()
            if self._wait(os.WNOHANG):
                return True
        looks = 0
        while looks < ASLEEP_LOOKS:
            if self._wait(os.WNOHANG):
                return True
            looks = looks + 1 if stat_of(str(self.pid))[0] == "S" else 0
        return False

    def wake(self) -> None:
        """After somebody has woken the child: waits until it has returned from its sleep."""
        self._wait()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        while os.WIFSTOPPED(os.waitpid(self.pid, 0)[1]):
            pass
        self.forget()

    def _wait(self, options: int = 0) -> bool:
        pid, status = os.waitpid(self.pid, options)
        if pid == 0:
            return False
        assert os.WIFSTOPPED(status), f"the child ended, status {status}"
        if os.WSTOPSIG(status) == signal.SIGTRAP:
            self.steps += 1
            self.native_steps += self._native[0] <= _program_counter(self.pid) < self._native[1]
        else:
            assert os.WSTOPSIG(status) == signal.SIGSTOP
            self.ended = self.steps > 0
        return True


def _offer(before: Callable[..., Any], call: Callable[..., Any], *args: Any) -> None:
    before(*args)
    _ptrace(TRACEME, 0)
    me = os.getpid()
    os.kill(me, signal.SIGSTOP)
    call(*args)
    os.kill(me, signal.SIGSTOP)


def needs_stepping() -> None:
    """Skips the test where a process may not be stepped."""
    if platform.machine() not in PC:
        pytest.skip(f"does not know the registers of {platform.machine()}")
    probe = Forked(_ptrace, TRACEME, 0)
    try:
        probe.result()
    except PermissionError:
        pytest.skip("ptrace is not permitted here")


def stay_on_one_processor() -> None:
    """Each step is a hand-over, which is quicker there; and nobody spins there."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def native_code() -> Range:
    """Where the binding's code lies, here and in every fork."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.rstrip().endswith(binding.__file__) and "r-xp" in line:
                begin, _, end = line.split()[0].partition("-")
                return int(begin, 16), int(end, 16)
    raise AssertionError("the binding is not mapped")


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long
_registers = (ctypes.c_uint64 * 64)()
_vector = _Vector(ctypes.addressof(_registers), ctypes.sizeof(_registers))


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, pid, address, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace({request}): {os.strerror(number)}")


def _program_counter(pid: int) -> int:
    _vector.length = ctypes.sizeof(_registers)
    _ptrace(GETREGSET, pid, NT_PRSTATUS, ctypes.addressof(_vector))
    return int(_registers[PC[platform.machine()]])
