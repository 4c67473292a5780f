"""What docs/guarantees.md promises and no other file shows: many users, other pid namespaces,
another boot, a warning that is an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    ARGUMENTS,
    CLASSES,
    EACH_CLASS,
    LOCK_CLASSES,
    TESTS,
    Forked,
    Gate,
    in_child,
    made,
    named,
    touch,
)
from isolation import isolated

from shmipc import BrokenError, BusyError, OwnerDiedWarning, Queue, Ring

USERS = 256  # of one segment at a time


@isolated()
def test_one_user_too_many_is_busy_until_another_ends() -> None:
    def use_and_stay() -> None:
        touch(ring)
        ready.open()
        leave.wait()

    with made(Ring) as ring:
        ready, leave = Gate(), Gate()
        touch(ring)
        users = [Forked(use_and_stay) for _ in range(USERS - 1)]
        for _ in users:
            ready.wait()
        with pytest.raises(BusyError):
            in_child(touch, ring)
        users.pop().kill()
        in_child(touch, ring)
        leave.open(len(users))
        for user in users:
            user.result()
        ready.close()
        leave.close()


@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated()
def test_a_warning_that_is_an_error_leaves_the_lock_free(cls: Any) -> None:
    with made(cls) as lock:
        in_child(lock.acquire)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(OwnerDiedWarning):
                lock.acquire()
            assert not lock.locked()
            assert lock.acquire()
            lock.release()


HOLD = "import shmipc, sys, time; lock = getattr(shmipc, sys.argv[1]).attach(sys.argv[2]); \
lock.acquire(); print('held', flush=True); time.sleep(600)"


@pytest.mark.parametrize("cls", LOCK_CLASSES)
@isolated()
def test_death_is_seen_across_pid_namespaces(cls: Any, name: str) -> None:
    """There a pid means nothing: the holder believes that it is process 1."""
    with named(cls, name) as lock, in_pid_namespace(HOLD, cls.__name__, name) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert not lock.acquire(timeout=1.2)
        holder.kill()
        with pytest.warns(OwnerDiedWarning):
            assert lock.acquire()
        lock.release()


@contextmanager
def in_pid_namespace(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    _skip_unless_it_works([*unshare, "true"])
    command = [*unshare, sys.executable, "-P", "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _skip_unless_it_works(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{' '.join(command)} does not work here")


@pytest.mark.parametrize("cls", EACH_CLASS)
@isolated()
def test_after_another_boot_a_file_that_was_in_use_is_broken_until_recovered(
    cls: Any, tmp_path: Path
) -> None:
    where = tmp_path / "file"

    def use_until_the_machine_goes_down() -> None:
        thing = cls.create(where, **ARGUMENTS[cls])
        touch(thing)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(AssertionError, match="without a result"):
        in_child(use_until_the_machine_goes_down)
    after_a_boot("attach_is_broken", cls, where)
    after_a_boot("recovered_works", cls, where)
    cls.unlink(where)


@pytest.mark.parametrize("cls", EACH_CLASS)
@isolated()
def test_after_another_boot_a_file_that_was_closed_is_as_it_was(cls: Any, tmp_path: Path) -> None:
    where = tmp_path / "file"
    cls.create(where, **ARGUMENTS[cls]).close()
    after_a_boot("attach_works", cls, where)
    cls.unlink(where)


def after_a_boot(what: str, cls: Any, where: Path) -> None:
    """Calls a function of this module where the kernel tells another boot's identity."""
    boot = "/proc/sys/kernel/random/boot_id"
    other = where.with_name("boot_id")
    other.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    unshare = ["unshare", "--mount", "sh", "-ec"]
    bind = f"mount --bind {other} {boot}"
    _skip_unless_it_works([*unshare, bind])
    call = f"import test_guarantees; test_guarantees.{what}({cls.__name__!r}, {str(where)!r})"
    paths = os.pathsep.join([str(TESTS), str(TESTS / "process")])
    subprocess.run(
        [*unshare, f'{bind}; exec "$0" "$@"', sys.executable, "-P", "-c", call],
        check=True,
        env=os.environ | {"PYTHONPATH": paths},
    )


def attach_is_broken(kind: str, where: str) -> None:
    cls = _class_of(kind)
    with pytest.raises(BrokenError, match=where):
        cls.attach(where)


def recovered_works(kind: str, where: str) -> None:
    cls = _class_of(kind)
    cls.recover(where)
    attach_works(kind, where)


def attach_works(kind: str, where: str) -> None:
    thing = _class_of(kind).attach(where)
    touch(thing)
    if isinstance(thing, (Ring, Queue)):
        assert thing.get(timeout=60) == b"sign"
    thing.close()


def _class_of(kind: str) -> Any:
    return next(cls for cls in CLASSES if cls.__name__ == kind)
