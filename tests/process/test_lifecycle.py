"""Names between processes: any order, the last user, dead users, and who may use them."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    ARGUMENTS,
    CHANNELS,
    EACH_CLASS,
    Forked,
    Gate,
    file_of,
    in_child,
    leave_sign,
    made,
    named,
    remove_sign,
    touch,
    unique_name,
    wait_until_asleep,
)
from isolation import isolated

from shmipc import Ring, Segment, SemaphoreLock, SharedArray, ShmipcError

each_class = pytest.mark.parametrize("cls", EACH_CLASS)


@each_class
@isolated()
def test_attach_waits_for_the_name_to_appear(cls: Any, name: str) -> None:
    child = Forked(lambda: cls.attach(name, timeout=60).name)
    wait_until_asleep(child.pid)
    with named(cls, name):
        assert child.result() == name


@each_class
@isolated()
def test_programs_that_open_at_once_share_one_object(cls: Any, name: str) -> None:
    """Twelve processes race; one creates, and all others attach to that one."""
    go = Gate()

    def open_it() -> int:
        go.wait()
        thing = cls.open(name, **ARGUMENTS[cls])
        inode = file_of(name).stat().st_ino
        thing.close()
        return inode

    racers = [Forked(open_it) for _ in range(12)]
    go.open(len(racers))
    assert len({racer.result() for racer in racers}) == 1
    cls.unlink(name)
    go.close()


@each_class
@isolated()
def test_create_succeeds_in_one_of_many_racers(cls: Any, name: str) -> None:
    go = Gate()

    def create_it() -> bool:
        go.wait()
        try:
            cls.create(name, **ARGUMENTS[cls]).close()
        except FileExistsError:
            return False
        return True

    racers = [Forked(create_it) for _ in range(12)]
    go.open(len(racers))
    assert [racer.result() for racer in racers].count(True) == 1
    cls.unlink(name)
    go.close()


@each_class
@isolated()
def test_unlink_last_goes_with_its_last_user(cls: Any, name: str) -> None:
    ready, leave = Gate(), Gate()

    def use() -> None:
        thing = cls.attach(name, timeout=60)
        ready.open()
        leave.wait()
        thing.close()

    child = Forked(use)
    thing = cls.create(name, unlink="last", **ARGUMENTS[cls])
    ready.wait()
    thing.close()
    assert file_of(name).exists()
    leave.open()
    child.result()
    assert not file_of(name).exists()
    ready.close()
    leave.close()


@each_class
@isolated()
def test_unlink_last_with_users_that_all_close_at_once(cls: Any, name: str) -> None:
    """Whoever is the last, and however they overlap, one of them takes the name away."""
    people, rounds = 4, 40
    ready = Gate()
    leave = [Gate() for _ in range(rounds)]

    def use() -> None:
        for turn in range(rounds):
            thing = cls.attach(f"{name}-{turn}", timeout=60)
            ready.open()
            leave[turn].wait()
            thing.close()

    children = [Forked(use) for _ in range(people)]
    for turn in range(rounds):
        thing = cls.create(f"{name}-{turn}", unlink="last", **ARGUMENTS[cls])
        for _ in children:
            ready.wait()
        leave[turn].open(people)
        thing.close()
    for child in children:
        child.result()
    assert [turn for turn in range(rounds) if file_of(f"{name}-{turn}").exists()] == []
    for gate in (ready, *leave):
        gate.close()


@each_class
def test_unlink_last_with_one_user(cls: Any, name: str) -> None:
    thing = cls.create(name, unlink="last", **ARGUMENTS[cls])
    assert file_of(name).exists()
    thing.close()
    assert not file_of(name).exists()


@each_class
@isolated()
def test_a_user_that_died_does_not_keep_an_unlink_last_name(cls: Any, name: str) -> None:
    ready = Gate()

    def use() -> None:
        thing = cls.attach(name)
        touch(thing)
        ready.open()
        Gate().wait()

    thing = cls.create(name, unlink="last", **ARGUMENTS[cls])
    child = Forked(use)
    ready.wait()
    child.kill()
    thing.close()
    assert not file_of(name).exists()
    ready.close()


@pytest.mark.parametrize("library", ["multiprocessing", "multiprocess"])
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@isolated(fresh=True)
def test_a_started_process_that_is_the_last_user_leaves_nothing(start: str, library: str) -> None:
    """It ends without close, after everybody else has closed: unlink="last", semaphores."""
    name = unique_name()
    context = importlib.import_module(library).get_context(start)
    named = SemaphoreLock.create(name, unlink="last")
    anonymous = Ring(lock="semaphore")
    here, there = context.Pipe()
    process = context.Process(target=use_until_told, args=(named, anonymous, there))
    process.start()
    assert here.recv() == "used"
    named.close()
    anonymous.close()
    here.send("end")
    process.join()
    assert process.exitcode == 0
    process.close()
    here.close()
    there.close()
    assert not file_of(name).exists()


def use_until_told(lock: SemaphoreLock, ring: Ring, pipe: Any) -> None:
    with lock:
        ring.put(b"1")
    pipe.send("used")
    assert pipe.recv() == "end"


@each_class
@isolated()
def test_replace_dead_takes_over_a_name_that_nobody_uses(cls: Any, name: str) -> None:
    def create_and_die() -> None:
        leave_sign(cls.create(name, **ARGUMENTS[cls]))

    in_child(create_and_die)
    with pytest.raises(FileExistsError, match=name):
        cls.create(name, **ARGUMENTS[cls])
    thing = cls.create(name, replace="dead", **ARGUMENTS[cls])
    leave_sign(thing)  # it is a new one: no lock is held, no message waits
    remove_sign(thing)
    thing.unlink()
    thing.close()


@each_class
@isolated()
def test_replace_dead_does_not_take_over_a_name_in_use(cls: Any, name: str) -> None:
    with named(cls, name) as thing:
        leave_sign(thing)
        before = file_of(name).stat().st_ino
        with pytest.raises(FileExistsError, match=name):
            in_child(lambda: cls.create(name, replace="dead", **ARGUMENTS[cls]))
        assert file_of(name).stat().st_ino == before
        remove_sign(thing)


@each_class
@isolated()
def test_replace_dead_sees_a_user_that_only_attached(cls: Any, name: str) -> None:
    ready, leave = Gate(), Gate()

    def attach_only() -> None:
        thing = cls.attach(name, timeout=60)
        ready.open()
        leave.wait()
        thing.close()

    child = Forked(attach_only)
    cls.create(name, **ARGUMENTS[cls]).close()
    ready.wait()
    with pytest.raises(FileExistsError, match=name):
        cls.create(name, replace="dead", **ARGUMENTS[cls])
    leave.open()
    child.result()
    cls.create(name, replace="dead", **ARGUMENTS[cls]).close()
    cls.unlink(name)
    ready.close()
    leave.close()


@each_class
@isolated()
def test_participants_are_the_living_users(cls: Any, name: str) -> None:
    ready, leave = Gate(), Gate()

    def use() -> None:
        other = cls.attach(name)
        touch(other)
        ready.open()
        leave.wait()

    with named(cls, name) as thing:
        child = Forked(use)
        ready.wait()
        alive = [who.pid for who in thing.participants() if who.alive]
        assert sorted(alive) == sorted([os.getpid(), child.pid])
        child.kill()
        assert [who.pid for who in thing.participants() if who.alive] == [os.getpid()]
    ready.close()
    leave.close()


@each_class
@isolated()
def test_a_zombie_is_dead(cls: Any) -> None:
    """The kernel reports death when it happens, not when the parent has looked."""
    with made(cls) as thing:
        child = Forked(touch, thing)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child.pid not in [who.pid for who in thing.participants() if who.alive]
        child.result()


@each_class
@isolated(limit=120)
def test_participants_that_come_and_go_use_their_places_again(cls: Any) -> None:
    with made(cls) as thing:
        for _ in range(200):
            in_child(touch, thing)
            if cls in CHANNELS:
                assert thing.get() == b"sign"


@each_class
@pytest.mark.parametrize("used_before", [True, False])
@isolated()
def test_privileges_dropped_after_the_start(cls: Any, used_before: bool) -> None:
    """It works on, or it is a clear error; for the others it works on in any case."""
    if os.geteuid() != 0:
        pytest.skip("needs root to drop it")

    def drop_and_use() -> str:
        if used_before:
            touch(thing)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            touch(thing)
        except (OSError, ShmipcError) as error:
            return str(error)
        return "worked"

    with made(cls) as thing:
        answer = in_child(drop_and_use)
        assert answer == "worked" if used_before else answer
        touch(thing)


@each_class
@isolated()
def test_another_user_cannot_attach_to_a_private_name(cls: Any, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")

    def attach_as_nobody() -> None:
        os.setuid(65534)
        cls.attach(name)

    with named(cls, name), pytest.raises(PermissionError, match=name):
        in_child(attach_as_nobody)


@each_class
@isolated()
def test_a_daemon_that_closes_every_descriptor_keeps_the_object(cls: Any) -> None:
    def close_all_and_use() -> None:
        touch(thing)
        if cls is SharedArray:
            thing.participants()  # to touch bytes is no call that could take a slot
        os.closerange(0, 1024)
        touch(thing)
        alive = [who.alive for who in thing.participants() if who.pid == os.getpid()]
        os._exit(0 if alive == [True] else 1)

    with made(cls) as thing:
        child = Forked(close_all_and_use)
        with pytest.raises(AssertionError, match=r"status 0\b"):  # no result: its pipe is closed
            child.result()


@isolated()
def test_a_file_backed_segment_keeps_its_bytes_from_run_to_run(tmp_path: Path) -> None:
    def write() -> None:
        with Segment.create(tmp_path / "file", 100) as segment:
            segment.buf[:5] = b"bytes"

    in_child(write)
    with Segment.attach(tmp_path / "file") as segment:
        assert bytes(segment.buf[:5]) == b"bytes"
