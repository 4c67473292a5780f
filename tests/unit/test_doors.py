"""The four doors, alike for every class: anonymous, create, attach, open; unlink and close."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    ARGUMENTS,
    EACH_CLASS,
    file_of,
    in_child,
    in_thread,
    leave_sign,
    made,
    named,
    remove_sign,
    run_python,
    sign_is_there,
    touch,
)
from isolation import isolated

import shmipc
from shmipc import Array, ClosedError, Ring, Segment, SharedArray, Value

pytestmark = pytest.mark.parametrize("cls", EACH_CLASS)


def test_an_anonymous_object_has_no_name(cls: Any) -> None:
    with made(cls) as thing:
        assert thing.name is None


def test_a_plain_name_is_a_private_file_in_shared_memory(cls: Any, name: str) -> None:
    thing = cls.create(name, **ARGUMENTS[cls])
    assert thing.name == name
    assert thing.path == str(file_of(name))
    assert stat.S_IMODE(file_of(name).stat().st_mode) == 0o600
    thing.unlink()
    assert not file_of(name).exists()
    thing.close()


@pytest.mark.parametrize("kind", [Path, str])
def test_a_path_is_that_file(cls: Any, kind: Any, tmp_path: Path) -> None:
    where = tmp_path / "thing"
    thing = cls.create(kind(where), **ARGUMENTS[cls])
    assert thing.path == str(where)
    assert list(tmp_path.iterdir()) == [where]
    thing.unlink()
    assert not any(tmp_path.iterdir())
    thing.close()


def test_the_mode_is_the_one_asked_for(cls: Any, name: str) -> None:
    thing = cls.create(name, mode=0o640, **ARGUMENTS[cls])
    assert stat.S_IMODE(file_of(name).stat().st_mode) == 0o640
    thing.unlink()
    thing.close()


@pytest.mark.parametrize("backing", ["named", "file"])
@isolated()
def test_attach_finds_what_another_process_created(cls: Any, backing: str, tmp_path: Path) -> None:
    def attach_and_look(where: str) -> bool:
        thing = cls.attach(where)
        try:
            return sign_is_there(thing)
        finally:
            thing.close()

    with made(cls, backing, tmp_path) as thing:
        leave_sign(thing)
        assert in_child(attach_and_look, thing.path)
        remove_sign(thing)


def test_create_refuses_a_name_that_is_there(cls: Any, name: str) -> None:
    with named(cls, name):
        with pytest.raises(FileExistsError, match=name):
            cls.create(name, **ARGUMENTS[cls])
        assert file_of(name).exists()


def test_attach_refuses_a_name_that_is_not_there(cls: Any, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        cls.attach(name)


@pytest.mark.parametrize("timeout", [-1, 0, 0.05])
def test_attach_gives_up_after_its_timeout(cls: Any, name: str, timeout: float) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        cls.attach(name, timeout=timeout)


def test_unlink_refuses_a_name_that_is_not_there(cls: Any, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        cls.unlink(name)


def test_unlink_by_name_leaves_those_attached_attached(cls: Any, name: str) -> None:
    thing = cls.create(name, **ARGUMENTS[cls])
    cls.unlink(name)
    assert not file_of(name).exists()
    touch(thing)
    thing.close()


def test_a_name_outlives_its_creator_until_it_is_unlinked(cls: Any, name: str) -> None:
    cls.create(name, **ARGUMENTS[cls]).close()
    cls.attach(name).close()
    assert file_of(name).exists()
    cls.unlink(name)


def test_open_creates_first_and_attaches_then(cls: Any, name: str) -> None:
    first = cls.open(name, **ARGUMENTS[cls])
    second = cls.open(name, **ARGUMENTS[cls])
    leave_sign(first)
    assert _sign_is_here(second)
    remove_sign(first)
    first.unlink()
    first.close()
    second.close()


def test_an_object_of_another_class_is_a_layout_error(cls: Any, name: str) -> None:
    other = Ring if cls is Segment else Segment
    with named(other, name), pytest.raises(shmipc.LayoutError) as error:
        cls.attach(name)
    assert name in str(error.value)


def test_close_may_be_called_again(cls: Any) -> None:
    thing = cls(**ARGUMENTS[cls])
    assert not thing.closed
    thing.close()
    thing.close()
    assert thing.closed


def test_an_object_that_is_dropped_needs_no_close(cls: Any) -> None:
    thing = cls(**ARGUMENTS[cls])
    touch(thing)


def test_use_after_close_is_a_closed_error(cls: Any) -> None:
    if cls is SharedArray:
        pytest.skip("is a view on its memory, and stays valid")
    thing = cls(**ARGUMENTS[cls])
    thing.close()
    with pytest.raises(ClosedError):
        leave_sign(thing)


def test_attach_after_close_gives_a_new_handle(cls: Any, name: str) -> None:
    cls.create(name, **ARGUMENTS[cls]).close()
    thing = cls.attach(name)
    touch(thing)
    thing.unlink()
    thing.close()


def test_the_creator_is_a_participant(cls: Any) -> None:
    with made(cls) as thing:
        leave_sign(thing)
        me = [who for who in thing.participants() if who.me]
        assert [who.pid for who in me] == [os.getpid()]
        assert me[0].alive
        assert isinstance(me[0].slot, int)
        assert "pytest" in me[0].command or "python" in me[0].command
        remove_sign(thing)


def test_repr_names_the_class_before_and_after_close(cls: Any) -> None:
    thing = cls(**ARGUMENTS[cls])
    name = type(thing).__name__
    assert name == cls.__name__ or cls in (Value, Array)
    assert name in repr(thing)
    thing.close()
    assert name in repr(thing)


def test_another_directory_by_the_environment(cls: Any, name: str, tmp_path: Path) -> None:
    script = f"""
import os, shmipc
thing = shmipc.{cls.__name__}.create({name!r}, **{ARGUMENTS[cls]})
print(thing.path, *os.listdir({str(tmp_path)!r}))
thing.unlink()
"""
    done = run_python("-c", script, SHMIPC_DIR=str(tmp_path))
    assert done.stdout.split() == [f"{tmp_path}/shmipc.{name}", f"shmipc.{name}"], done.stderr


BAD_NAMES: list[tuple[Any, Any]] = [
    ("", (ValueError, OSError)),
    ("nul\0inside", ValueError),
    ("n" * 300, OSError),
    ("no-such-directory/thing", FileNotFoundError),
    ("trailing/", OSError),
    ("/", OSError),
    ("/dev/null/thing", NotADirectoryError),
    ("/dev", OSError),
    (7, TypeError),
    (None, TypeError),
    (["a"], TypeError),
]


@pytest.mark.parametrize("door", ["create", "attach", "open", "unlink"])
def test_a_bad_name_is_refused_and_named(cls: Any, door: str) -> None:
    options = ARGUMENTS[cls] if door in ("create", "open") else {}
    for bad, error in BAD_NAMES:
        with pytest.raises(error) as raised:
            getattr(cls, door)(bad, **options)
        if isinstance(raised.value, OSError):
            assert bad[:200] in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [{"mode": "rw"}, {"mode": -1}, {"unlink": "first"}, {"replace": "all"}, {"nonsense": 1}],
    ids=str,
)
def test_a_bad_option_is_refused_before_anything_is_made(
    cls: Any, name: str, options: dict[str, Any]
) -> None:
    with pytest.raises((TypeError, ValueError)):
        cls.create(name, **ARGUMENTS[cls], **options)
    assert not file_of(name).exists()


def _sign_is_here(thing: Any) -> bool:
    """`sign_is_there`, for two handles in one process."""
    if isinstance(thing, shmipc.RLock):
        return bool(thing.locked())  # its own thread may take it again
    if isinstance(thing, shmipc.Condition):
        return not in_thread(lambda: thing.acquire(block=False))()
    return sign_is_there(thing)
