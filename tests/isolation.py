"""Tests in processes of their own, and what no test may leave behind.

A hang is a failure that shows the stacks of all threads of all processes of the test.
"""

from __future__ import annotations

import faulthandler
import functools
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

import shmipc

Body = TypeVar("Body", bound=Callable[..., None])
Parameters = dict[str, Any]

TESTS = Path(__file__).resolve().parent
SHM = Path("/dev/shm")
SKIPPED = 77
ARENAS = Counter({"/memfd:shmipc (deleted)": 2})  # small objects'; a process keeps two for good


def isolated(limit: float = 60, *, fresh: bool = False) -> Callable[[Body], Body]:
    """Runs a test in a forked process, `limit` seconds at most (ten times that in stress runs).

    `fresh` makes it a new interpreter with the test's module as anybody would import it, which
    multiprocessing needs to spawn; then the test's parameters must be picklable.
    """

    def decorate(test: Body) -> Body:
        @functools.wraps(test)
        def run(**parameters: Any) -> None:
            stress = os.environ.get("SHMIPC_STRESS") == "1"
            _run_isolated(test, parameters, limit * 10 if stress else limit, fresh)

        return run  # type: ignore[return-value]

    return decorate


# --- what a test may leave ----------------------------------------------------------------------


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fails when the body leaves a name in /dev/shm, a descriptor or a child process."""
    names, opened = shared_names(), _descriptors() | ARENAS
    yield
    gc.collect()
    shmipc.Lock().close()  # opens the arenas, if the body has not
    shmipc.Barrier(1).close()
    names = shared_names() - names
    for name in names:
        name.unlink(missing_ok=True)
    assert not names, f"left in /dev/shm: {sorted(map(str, names))}"
    opened = _descriptors() - opened
    assert not opened, f"descriptors left open: {dict(opened)}"
    started = _children()
    assert not started, f"children left: {started}"


def shared_names() -> set[Path]:
    """What stands in the system's shared memory under a name of ours."""
    return {*SHM.glob("shmipc.*"), *SHM.glob("sem.shmipc*")}


def _descriptors() -> Counter[str]:
    """What the open descriptors of this process are; multiprocessing's heap stays for good."""
    found = Counter[str]()
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # the one that lists
            found[str(entry.readlink())] += 1
    return Counter({name: count for name, count in found.items() if "/pym-" not in name})


def _children() -> list[int]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    return [pid for pid, stat in processes() if int(stat[1]) == os.getpid()]


# --- the process of the test --------------------------------------------------------------------


def run_here(test: Callable[..., None], parameters: Parameters) -> int:
    """Runs the test and prints how it failed; the exit status."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with nothing_left():
            try:
                test(**parameters)
            finally:
                _stop_servers()
    except pytest.skip.Exception as reason:
        print(reason)
        return SKIPPED
    except BaseException as error:
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        print(*report.format(), sep="")
        return 1
    return 0


def _stop_servers() -> None:
    """Ends the helper processes that multiprocessing and multiprocess keep for good."""
    for library in ("multiprocessing", "multiprocess"):
        if f"{library}.forkserver" in sys.modules:
            servers: Any = importlib.import_module(f"{library}.forkserver")
            servers._forkserver._stop()
        if f"{library}.resource_tracker" in sys.modules:
            tracker: Any = importlib.import_module(f"{library}.resource_tracker")
            tracker._resource_tracker._stop()


def _become(
    test: Callable[..., None], parameters: Parameters, output: Any, fresh: bool
) -> NoReturn:
    """What the forked process does: in a session of its own, with its output in a file."""
    status = 1
    try:
        os.setsid()
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        if fresh:
            _become_fresh(test, parameters)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        faulthandler.enable(sys.stderr)
        status = run_here(test, parameters)
        sys.stdout.flush()
    finally:
        os._exit(status)


def _become_fresh(test: Callable[..., None], parameters: Parameters) -> NoReturn:
    with tempfile.TemporaryFile() as file:
        pickle.dump(parameters, file)
        file.seek(0)
        os.dup2(file.fileno(), 0)
    where = test.__code__.co_filename
    command = [sys.executable, str(TESTS / "run_isolated.py"), where, test.__name__]
    os.execve(sys.executable, command, os.environ | {"PYTHONFAULTHANDLER": "1"})


# --- the process that waits ---------------------------------------------------------------------


def _run_isolated(
    test: Callable[..., None], parameters: Parameters, limit: float, fresh: bool
) -> None:
    with tempfile.TemporaryFile() as output:
        status, orphans = _run_process(test, parameters, limit, output, fresh)
        output.seek(0)
        text = output.read().decode(errors="replace")
    if status == SKIPPED:
        pytest.skip(text.strip().rpartition("\n")[2])
    if status is None:
        pytest.fail(f"hung for {limit} s:\n{text}", pytrace=False)
    if status != 0:
        pytest.fail(f"ended with status {status}:\n{text}", pytrace=False)
    assert not orphans, f"processes left: {orphans}"


def _run_process(
    test: Callable[..., None], parameters: Parameters, limit: float, output: Any, fresh: bool
) -> tuple[int | None, list[int]]:
    """The exit status of the test's process, None when it had to be stopped; who outlived it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: threads and fork
        pid = os.fork()
    if pid == 0:
        _become(test, parameters, output, fresh)
    status = None
    try:
        if _ends_within(pid, limit):
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status, _orphans(pid) if status == 0 else []
    finally:
        _stop_group(pid)
        if status is None:
            os.waitpid(pid, 0)


def _ends_within(pid: int, limit: float) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], limit)[0])
    finally:
        os.close(descriptor)


def _orphans(group: int) -> list[int]:
    """Who is still in a process group whose leader has ended, after a while to leave."""
    deadline = time.monotonic() + 5
    while _members(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    return _members(group)


def _stop_group(group: int) -> None:
    """Ends what is left of a process group; SIGABRT first, so that Python shows its stacks."""
    for ending in (signal.SIGABRT, signal.SIGKILL):
        for pid in _members(group):  # one after the other, so that the stacks do not mix
            with suppress(ProcessLookupError):
                os.kill(pid, ending)
                os.kill(pid, signal.SIGCONT)
            deadline = time.monotonic() + 2
            while pid in _members(group) and time.monotonic() < deadline:
                time.sleep(0.01)


def _members(group: int) -> list[int]:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return []
    return [pid for pid, stat in processes() if int(stat[2]) == group and stat[0] not in "ZX"]


def stat_of(pid: str) -> list[str]:
    """State, parent, process group, ... of a process, as proc(5) lists them."""
    return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()


def processes() -> Iterator[tuple[int, list[str]]]:
    """Every process of the machine, and what proc(5) says about it from its state on."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            yield int(entry.name), stat_of(entry.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
