"""The package as such: a light import, names, errors, types, a checkout that is not built."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, TESTS, run_python, unique_name

import shmipc
from shmipc import ShmipcError

HEAVY = ["numpy", "multiprocessing", "multiprocess", "rich", "shmipc.cli", "asyncio", "dill"]


def test_the_import_is_light() -> None:
    done = run_python("-c", f"import shmipc, sys; print([m for m in {HEAVY} if m in sys.modules])")
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_an_object_can_be_used_without_multiprocessing() -> None:
    script = "import shmipc, sys; q = shmipc.Queue(); q.put(1); assert q.get() == 1; q.close()"
    done = run_python("-W", "error", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interpreter_that_ends_with_open_objects_leaves_nothing_and_says_nothing() -> None:
    """Not in /dev/shm either: see conftest.py."""
    script = f"""
import shmipc
objects = [shmipc.Segment(10), shmipc.Lock(), shmipc.Ring(lock="semaphore"), shmipc.Queue()]
objects[1].acquire()
objects[3].put(7)
view = memoryview(objects[0])
last = shmipc.Ring.create({unique_name()!r}, lock="semaphore", unlink="last")
lock = shmipc.SemaphoreLock()
lock.acquire()
"""
    done = run_python("-W", "error", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_a_version() -> None:
    assert shmipc.__version__.count(".") >= 1
    assert shmipc.__version__[0].isdigit()


def test_every_public_name_is_there_and_documented() -> None:
    for name in shmipc.__all__:
        thing = getattr(shmipc, name)
        assert name.startswith("__") or thing.__doc__, f"{name} has no docstring"


ERRORS: list[tuple[Any, Any]] = [
    (shmipc.Full, ShmipcError),
    (shmipc.Empty, ShmipcError),
    (shmipc.ShutDown, ShmipcError),
    (shmipc.ClosedError, ShmipcError),
    (shmipc.BusyError, ShmipcError),
    (shmipc.BrokenError, ShmipcError),
    (shmipc.LayoutError, ShmipcError),
    (shmipc.CorruptError, ShmipcError),
    (shmipc.OwnerDiedWarning, RuntimeWarning),
]


@pytest.mark.parametrize(("error", "base"), ERRORS)
def test_every_error_has_the_common_base(error: type, base: type) -> None:
    assert issubclass(error, base)


def test_a_checkout_without_the_extension_says_in_one_sentence_what_to_run(tmp_path: Path) -> None:
    built = shutil.ignore_patterns("*.so", "__pycache__", "build")
    shutil.copytree(ROOT / "shmipc", tmp_path / "shmipc", ignore=built)
    paths = [str(tmp_path), sysconfig.get_path("purelib")]  # without its .pth files
    done = run_python("-I", "-S", "-c", f"import sys; sys.path[:0] = {paths}; import shmipc")
    message = done.stderr.strip().rpartition("\n")[2]
    assert message.startswith("ImportError: "), done.stderr
    assert "pip install" in message


def test_types_are_checked_by_mypy() -> None:
    pytest.importorskip("mypy")
    done = run_python(
        "-m",
        "mypy",
        "--strict",
        "--cache-dir=/dev/null",
        f"--config-file={ROOT / 'pyproject.toml'}",
        str(TESTS / "typing" / "typed_use.py"),
        limit=300,
        MYPYPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_typed_use_also_runs() -> None:
    done = run_python(str(TESTS / "typing" / "typed_use.py"))
    assert done.returncode == 0, done.stderr
