"""Mappings under threads and processes: closed and resized in the middle of things, counted, sent
about."""

from __future__ import annotations

import gc
import importlib
import mmap
import multiprocessing
import os
import pickle
import random
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Forked, Gate, in_child, in_thread, made, pairwise_cases
from isolation import isolated

import shmipc
from shmipc import ClosedError, LayoutError, Mapping, Queue, Reader
from shmipc.mapping import Advice, Seal, active_bytes, active_count

PAGE = mmap.PAGESIZE
SIZE = 512 * PAGE
CONTENT = (bytes(range(1, 256)) * (SIZE // 255 + 1))[:SIZE]  # no zeros; no two pages alike
ROUNDS = [20, pytest.param(300, marks=pytest.mark.stress)]
CYCLES = [400, pytest.param(20_000, marks=pytest.mark.stress)]
GUARDS = [False, True]


# --- mappings of every kind -----------------------------------------------------------------------


def content_file(where: Path) -> Path:
    path = where / "content"
    if not path.exists() or path.stat().st_size != SIZE:
        path.write_bytes(CONTENT)
    return path


def with_content(mapping: Mapping) -> Mapping:
    mapping[:] = CONTENT
    return mapping


KINDS: dict[str, Callable[[Path], Mapping]] = {
    "memfd": lambda where: with_content(Mapping(SIZE, max_size=2 * SIZE)),
    "shared": lambda where: with_content(Mapping.anonymous(SIZE, max_size=2 * SIZE)),
    "private": lambda where: with_content(Mapping.anonymous(SIZE, shared=False)),
    "r": lambda where: Mapping.open(content_file(where)),
    "rw": lambda where: Mapping.open(content_file(where), "rw"),
    "copy": lambda where: Mapping.open(content_file(where), "copy"),
}
GROWING = ["memfd", "shared", "private", "rw"]


def is_right(got: bytes, at: int) -> bool:
    return got == CONTENT[at : at + len(got)]


def use_until_closed(mapping: Mapping, seed: int, common: int = SIZE) -> int:
    """Reads whatever it likes of the `common` bytes until that is an error, since it was closed."""
    rng = random.Random(seed)
    done = 0
    try:
        while True:
            at, size = rng.randrange(SIZE // 2), rng.choice((1, 100, PAGE, SIZE // 2))
            got = mapping[at : min(at + size, common)]
            assert is_right(got, at), f"wrong bytes, {size} at {at}"
            assert mapping[at] == CONTENT[at], f"wrong byte at {at}"
            found = mapping.find(CONTENT[at : at + 64], 0, SIZE // 2 + 64)
            assert found == at % 255, f"found at {found}, expected at {at % 255}"
            done += 1
    except ClosedError:
        return done


# --- closed and resized by others -----------------------------------------------------------------


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("viewed", [False, True], ids=["unseen", "viewed"])
@pytest.mark.parametrize("kind", KINDS)
@isolated(limit=120)
def test_closed_under_threads_that_read(
    kind: str, viewed: bool, guard: bool, rounds: int, tmp_path: Path
) -> None:
    """What was under way still gets the right bytes; what comes after is an error."""
    if guard:
        shmipc.guard_faults()
    rng = random.Random(rounds)
    for _ in range(rounds):
        mapping = KINDS[kind](tmp_path)
        if viewed:
            memoryview(mapping).release()
        threads = [in_thread(lambda s=s, m=mapping: use_until_closed(m, s)) for s in range(3)]
        time.sleep(rng.random() / 200)
        mapping.close()
        for result in threads:
            result()
    del mapping
    assert active_count() == 0


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("kind", GROWING)
@isolated(limit=120)
def test_resized_under_threads_that_read(
    kind: str, guard: bool, rounds: int, tmp_path: Path
) -> None:
    """The bytes that all lengths have are the same whenever they are read."""
    if guard:
        shmipc.guard_faults()
    rng = random.Random(rounds)
    mapping = KINDS[kind](tmp_path)
    least = SIZE if kind == "memfd" else SIZE // 2 + PAGE  # sealed against shrinking
    threads = [in_thread(lambda s=s: use_until_closed(mapping, s, least)) for s in range(3)]
    try:
        for _ in range(rounds):
            length = rng.randrange(max(least, len(mapping)) if kind == "memfd" else least, 2 * SIZE)
            mapping.resize(length)
            assert len(mapping) == length
            time.sleep(rng.random() / 500)
    finally:
        mapping.close()
    for result in threads:
        result()


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("kind", GROWING)
@isolated(limit=120)
def test_many_threads_resize_write_and_close_at_once(
    kind: str, guard: bool, rounds: int, tmp_path: Path
) -> None:
    """No promise about the bytes, but no signal and nothing left."""
    if guard:
        shmipc.guard_faults()

    def meddle(mapping: Mapping, seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            size = rng.randrange(SIZE // 2, 2 * SIZE)
            at = rng.randrange(size)
            action = MEDDLING[rng.randrange(len(MEDDLING))]
            try:
                action(mapping, at, size)
            except (ValueError, BufferError, OSError, IndexError):
                continue

    rng = random.Random(rounds)
    for _ in range(rounds):
        stop = threading.Event()
        mapping = KINDS[kind](tmp_path)
        threads = [in_thread(lambda s=s, m=mapping: meddle(m, s)) for s in range(4)]
        time.sleep(rng.random() / 100)
        while not mapping.closed:
            try:
                mapping.close(rng.choice(("refuse", "detach", "force")))
            except BufferError:
                continue
        time.sleep(rng.random() / 500)
        stop.set()
        for result in threads:
            result()
        assert mapping.closed, "it is open again"
        del mapping, threads, result
    gc.collect()
    assert (active_count(), active_bytes()) == (0, 0)


MEDDLING: list[Callable[[Mapping, int, int], Any]] = [
    lambda m, at, size: m.resize(size),
    lambda m, at, size: m.resize(size),
    lambda m, at, size: m.__setitem__(slice(at, at + PAGE), bytes(PAGE)),
    lambda m, at, size: m.move(0, at, PAGE),
    lambda m, at, size: m.prefault(),
    lambda m, at, size: memoryview(m)[-1:].release(),
    lambda m, at, size: m.advise(Advice.WILLNEED),
    lambda m, at, size: m.refresh(),
    lambda m, at, size: m[at:size],
    lambda m, at, size: m[at],
    lambda m, at, size: m.find(b"\0\1\0", at),
]


# --- closed and resized by their own arguments ----------------------------------------------------


class Meddler:
    """An index, or a buffer, that does something else first."""

    def __init__(self, value: Any, action: Callable[[], Any]) -> None:
        self.value = value
        self.action = action

    def __index__(self) -> int:
        self.action()
        return int(self.value)

    def __buffer__(self, flags: int) -> memoryview:
        self.action()
        return memoryview(self.value)


INDEX_CALLS: dict[str, Callable[[Any, Callable[[int], Any]], Any]] = {
    "index": lambda m, i: m[i(SIZE - 1)],
    "slice": lambda m, i: m[i(SIZE // 2) : i(SIZE)],
    "steps": lambda m, i: m[i(0) : i(SIZE) : i(PAGE)],
    "set": lambda m, i: m.__setitem__(i(SIZE - 1), i(7)),
    "set value": lambda m, i: m.__setitem__(SIZE - 1, i(7)),
    "set slice": lambda m, i: m.__setitem__(slice(i(SIZE - PAGE), i(SIZE)), bytes(PAGE)),
    "set steps": lambda m, i: m.__setitem__(slice(0, SIZE, i(PAGE)), bytes(SIZE // PAGE)),
    "in": lambda m, i: i(0) in m,
    "find": lambda m, i: m.find(b"\0\1", i(1), i(SIZE)),
    "rfind": lambda m, i: m.rfind(b"\0\1", i(1), i(SIZE)),
    "read": lambda m, i: m.read(i(SIZE)),
    "seek": lambda m, i: (m.seek(i(SIZE)), m.read()),
    "write_byte": lambda m, i: (m.seek(SIZE - 1), m.write_byte(i(1))),
    "move": lambda m, i: m.move(i(0), i(SIZE // 2), i(SIZE // 2)),
    "resize": lambda m, i: m.resize(i(SIZE + PAGE)),
    "flush": lambda m, i: m.flush(i(0), i(SIZE)),
    "advise": lambda m, i: m.advise(i(Advice.WILLNEED), i(0), i(SIZE)),
    "protect": lambda m, i: m.protect(m.access, i(0), i(SIZE)),
    "lock": lambda m, i: (m.lock(i(0), i(PAGE)), m.unlock(i(0), i(PAGE))),
    "resident": lambda m, i: m.resident(i(0), i(SIZE)),
    "prefault": lambda m, i: m.prefault(i(0), i(SIZE)),
}
BUFFER_CALLS: dict[str, Callable[[Any, Callable[[bytes], Any]], Any]] = {
    "set slice": lambda m, b: m.__setitem__(slice(0, PAGE), b(bytes(PAGE))),
    "set steps": lambda m, b: m.__setitem__(slice(0, SIZE, PAGE), b(bytes(SIZE // PAGE))),
    "find": lambda m, b: m.find(b(b"\0\1"), 0),
    "rfind": lambda m, b: m.rfind(b(b"\0\1"), 0),
    "in": lambda m, b: b(b"\0\1") in m,
    "write": lambda m, b: m.write(b(bytes(SIZE))),
}
ACTIONS: dict[str, Callable[[Mapping], Any]] = {
    "close": lambda m: m.close(),
    "force": lambda m: m.close("force"),
    "shrink": lambda m: m.resize(PAGE),
    "empty": lambda m: m.resize(0),
    "grow": lambda m: m.resize(2 * SIZE),
    "refresh": lambda m: m.refresh(),
    "none": lambda m: m.protect("none"),
}


def is_answer(call: Callable[[], Any]) -> bool:
    """Anything but a signal, or an error of the implementation's own."""
    try:
        call()
    except (ValueError, IndexError, BufferError, OSError, TypeError):
        return True
    return True


def meddle_with_all(
    calls: dict[str, Callable[[Any, Any], Any]], kind: str, action: str, where: Path
) -> None:
    for call in calls.values():
        mapping = KINDS[kind](where)

        def act(mapping: Mapping = mapping) -> None:
            try:
                ACTIONS[action](mapping)
            except (ValueError, BufferError, OSError, TypeError):
                return

        def meddling(value: Any, act: Callable[[], None] = act) -> Meddler:
            return Meddler(value, act)

        assert is_answer(lambda call=call, m=mapping, meddling=meddling: call(m, meddling))
        assert is_answer(lambda m=mapping: m[:])
        mapping.close()


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("action", ACTIONS)
@isolated(limit=120)
def test_an_index_that_meddles(action: str, guard: bool, tmp_path: Path) -> None:
    if guard:
        shmipc.guard_faults()
    for kind in KINDS:
        meddle_with_all(INDEX_CALLS, kind, action, tmp_path)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with Python 3.12")
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("action", ACTIONS)
@isolated(limit=120)
def test_a_buffer_that_meddles(action: str, guard: bool, tmp_path: Path) -> None:
    if guard:
        shmipc.guard_faults()
    for kind in KINDS:
        meddle_with_all(BUFFER_CALLS, kind, action, tmp_path)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("guard", GUARDS)
@isolated(limit=120)
def test_an_index_that_closes_while_threads_read(guard: bool, rounds: int, tmp_path: Path) -> None:
    if guard:
        shmipc.guard_faults()
    calls = list(INDEX_CALLS.values())
    for turn in range(rounds):
        mapping = KINDS["rw"](tmp_path)
        threads = [in_thread(lambda s=s, m=mapping: use_until_closed(m, s)) for s in range(2)]
        call = next(c for c in calls[turn % len(calls) :] if c is not INDEX_CALLS["protect"])
        if call not in (INDEX_CALLS[name] for name in ("set", "set value", "write_byte", "move")):
            assert is_answer(lambda c=call, m=mapping: c(m, lambda v: Meddler(v, m.close)))
        mapping.close()
        for result in threads:
            result()
        restored(tmp_path)


def restored(where: Path) -> None:
    """After what a test has written or resized."""
    (where / "content").unlink()
    content_file(where)


@pytest.mark.parametrize("guard", GUARDS)
@isolated()
def test_a_reader_closed_by_an_argument_of_its_own(guard: bool, tmp_path: Path) -> None:
    if guard:
        shmipc.guard_faults()
    calls: list[Callable[[Reader, Callable[[int], Any]], Any]] = [
        lambda r, i: r.at(i(0)),
        lambda r, i: r.read_at(i(PAGE), i(0)),
        lambda r, i: r.readinto_at(bytearray(PAGE), i(0)),
    ]
    for call in calls:
        reader = Reader(content_file(tmp_path))
        with pytest.raises(ClosedError):
            call(reader, lambda value, reader=reader: Meddler(value, reader.close))
        assert reader.closed


# --- views and counts -----------------------------------------------------------------------------


@pytest.mark.parametrize("cycles", CYCLES)
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("kind", KINDS)
@isolated(limit=120)
def test_views_come_and_go_in_many_threads(
    kind: str, guard: bool, cycles: int, tmp_path: Path
) -> None:
    if guard:
        shmipc.guard_faults()
    mapping = KINDS[kind](tmp_path)

    def look(mapping: Mapping, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(cycles):
            at = rng.randrange(SIZE - PAGE)
            with memoryview(mapping) as view, view[at : at + PAGE] as part:
                assert is_right(bytes(part), at)
                assert mapping.views >= 1
                with pytest.raises(BufferError):
                    mapping.close()

    for result in [in_thread(lambda s=s, m=mapping: look(m, s)) for s in range(4)]:
        result()
    assert mapping.views == 0
    mapping.close()
    assert (active_count(), active_bytes()) == (0, 0)


@isolated()
def test_views_outlive_their_mapping_in_many_threads(tmp_path: Path) -> None:
    def keep(kind: str) -> None:
        for _ in range(100):
            mapping = KINDS[kind](tmp_path)
            view = memoryview(mapping)
            mapping.close("detach")
            assert mapping.closed
            del mapping
            assert active_count() >= 1
            assert is_right(bytes(view[PAGE : 3 * PAGE]), PAGE)
            view.release()

    content_file(tmp_path)  # before several threads make it
    for result in [in_thread(lambda k=k: keep(k)) for k in KINDS]:
        result()
    assert (active_count(), active_bytes()) == (0, 0)


@isolated()
def test_the_last_view_of_a_closed_mapping_takes_it_out_of_the_count() -> None:
    mapping = Mapping(SIZE)
    view = memoryview(mapping)
    mapping.close("detach")
    assert (active_count(), active_bytes()) == (1, SIZE)
    view.release()
    assert (active_count(), active_bytes()) == (0, 0)
    assert mapping.closed


@pytest.mark.parametrize("rounds", ROUNDS)
@isolated(limit=120)
def test_counts_are_right_under_threads(rounds: int, tmp_path: Path) -> None:
    path = content_file(tmp_path)
    meet = threading.Barrier(5)

    def open_and_close(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(rounds):
            pages = rng.randrange(1, 20)
            held: list[Mapping] = [
                Mapping(pages * PAGE - 5),
                Mapping.anonymous(pages * PAGE - 5),
                Mapping.anonymous(pages * PAGE, shared=False),
                Mapping.open(path, length=pages * PAGE),
                Mapping.open(path, "rw", offset=PAGE - 1, length=2),  # on two pages
                Mapping.open(path, length=0),  # of none
            ]
            sizes[seed] = 4 * pages * PAGE + 2 * PAGE
            meet.wait(30)
            meet.wait(30)
            rng.shuffle(held)
            for mapping in held:
                mapping.close()
            meet.wait(30)
            meet.wait(30)

    sizes = [0] * 4
    threads = [in_thread(lambda s=s: open_and_close(s)) for s in range(4)]
    for _ in range(rounds):
        meet.wait(30)
        opened = active_count(), active_bytes() - sum(sizes)
        meet.wait(30)
        meet.wait(30)
        closed = active_count(), active_bytes()
        meet.wait(30)
        assert (opened, closed) == ((20, 0), (0, 0))
    for result in threads:
        result()


# --- nothing leaks --------------------------------------------------------------------------------


def open_and_close(path: Path) -> None:
    for access in ("r", "rw", "copy", "rx", "none"):
        Mapping.open(path, access, offset=5).close()  # type: ignore[arg-type]
    Mapping(SIZE // 8, max_size=SIZE).close()
    Mapping.anonymous(SIZE).close()
    Reader(path).close()


def drop_unclosed(path: Path) -> None:
    for make in (lambda: Mapping.open(path), lambda: Mapping(PAGE), lambda: Reader(path)):
        make()
    view = memoryview(Mapping.open(path))
    assert view[3] == CONTENT[3]


def resize_by_moving(path: Path) -> None:
    with Mapping.open(path, "rw") as mapping, Mapping.anonymous(PAGE, shared=False) as memory:
        for length in (SIZE + PAGE, SIZE):
            with memoryview(mapping), memoryview(memory):
                assert mapping.views == 1
            mapping.resize(length)
            memory.resize(length // 8)


def resize_in_place(path: Path) -> None:
    with Mapping.open(path, "rw", max_size=2 * SIZE) as mapping, memoryview(mapping):
        mapping.resize(SIZE + PAGE)
    with Mapping.open(path, "rw", max_size=2 * SIZE) as mapping:
        mapping.resize(SIZE)
    with Mapping(PAGE, max_size=SIZE) as memory:
        memory.resize(SIZE)


def pickle_and_unpickle(path: Path) -> None:
    with Mapping.open(path) as mapping, Mapping(PAGE) as memory:
        for twin in pickle.loads(pickle.dumps([mapping, memory])):
            twin.close()


def send_and_receive(path: Path) -> None:
    left, right = socket.socketpair()
    with left, right, Mapping(PAGE) as mapping, Mapping.open(path) as file:
        mapping.send_fd(left)
        Mapping.recv_fd(right).close()
        file.send_fd(left)
        with pytest.raises(LayoutError):
            Mapping.recv_fd(right, "r")


def lose_and_find(path: Path) -> None:
    with Mapping.open(path) as mapping:
        os.truncate(path, PAGE)
        with pytest.raises(shmipc.MappingFault):
            mapping[:]
        mapping.refresh()
        path.write_bytes(CONTENT)
        mapping.refresh()
        assert len(mapping) == SIZE


def fail_to_open(path: Path) -> None:
    for options in ({"offset": SIZE + 1}, {"length": SIZE + 1}, {"access": "x"}):
        with pytest.raises(ValueError):
            Mapping.open(path, **options)  # type: ignore[arg-type]
    with Mapping.open(path) as mapping, pytest.raises(FileExistsError):
        Mapping.open(path, address=mapping.address)
    with pytest.raises(TypeError):
        Mapping.open(path).resize(5)
    with pytest.raises(FileNotFoundError):
        Mapping.open(path.with_name("none"))


LEAKS = [
    open_and_close,
    drop_unclosed,
    resize_by_moving,
    resize_in_place,
    pickle_and_unpickle,
    send_and_receive,
    lose_and_find,
    fail_to_open,
]


def used() -> tuple[int, int, int]:
    """Descriptors, pieces of memory, mappings."""
    gc.collect()
    lines = Path("/proc/self/maps").read_text().splitlines()
    return len(os.listdir("/proc/self/fd")), len(lines), active_count()


@pytest.mark.parametrize("cycles", [100, pytest.param(5_000, marks=pytest.mark.stress)])
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("cycle", LEAKS)
@isolated(limit=120)
def test_nothing_leaks(
    cycle: Callable[[Path], None], guard: bool, cycles: int, tmp_path: Path
) -> None:
    if guard:
        shmipc.guard_faults()
    path = content_file(tmp_path)
    for _ in range(20):
        cycle(path)
    descriptors, lines, active = used()
    for _ in range(cycles):
        cycle(path)
    now = used()
    assert now[0] == descriptors
    assert now[1] <= lines + 4
    assert now[2] == active == 0


@pytest.mark.parametrize("cycles", CYCLES)
@isolated(limit=120)
def test_one_mapping_resized_and_looked_at_for_long(cycles: int, tmp_path: Path) -> None:
    """Addresses that somebody may still know are kept, but cost no mapping each."""
    with Mapping.open(content_file(tmp_path), "rw") as mapping:
        lines = used()[1]
        for turn in range(cycles):
            memoryview(mapping).release()
            mapping.resize(SIZE + PAGE * (turn % 3))
        assert used()[1] <= lines + 20


# --- fork -----------------------------------------------------------------------------------------


def churn(stop: threading.Event, path: Path, seed: int) -> None:
    rng = random.Random(seed)
    while not stop.is_set():
        with rng.choice((open_memory, open_file))(path) as mapping, memoryview(mapping):
            assert mapping[5] in (0, CONTENT[5])


def open_memory(path: Path) -> Mapping:
    return Mapping(3 * PAGE)


def open_file(path: Path) -> Mapping:
    return Mapping.open(path)


def use_in_child(mapping: Mapping, path: Path) -> None:
    before = active_count()
    assert mapping[:] == CONTENT
    with Mapping.open(path) as mine, Reader(path) as reader, Mapping(PAGE) as memory:
        assert mine[:] == reader.read_at(SIZE, 0) == CONTENT
        assert active_count() == before + 3
        memory[:] = CONTENT[:PAGE]
        shmipc.guard_faults()
        with memoryview(mine) as view:
            assert view[PAGE] == CONTENT[PAGE]
    assert active_count() == before
    mapping.close()
    assert active_count() == before - 1


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("forks", [20, pytest.param(1000, marks=pytest.mark.stress)])
@isolated(limit=120)
def test_forks_while_threads_open_and_close(forks: int, guard: bool, tmp_path: Path) -> None:
    if guard:
        shmipc.guard_faults()
    path = content_file(tmp_path)
    stop = threading.Event()
    threads = [in_thread(lambda s=s: churn(stop, path, s)) for s in range(3)]
    try:
        with Mapping.open(path) as mapping:
            for _ in range(forks):
                in_child(use_in_child, mapping, path)
            assert mapping[:] == CONTENT
    finally:
        stop.set()
    for result in threads:
        result()


# --- readers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("guard", GUARDS)
@isolated(limit=120)
def test_close_of_a_reader_waits_for_who_is_reading(
    guard: bool, rounds: int, tmp_path: Path
) -> None:
    """No buffer is written to any more when close() has come back."""
    if guard:
        shmipc.guard_faults()
    path = content_file(tmp_path)
    rng = random.Random(rounds)

    def read(reader: Reader, buffer: bytearray) -> None:
        try:
            while True:
                assert reader.readinto_at(buffer, 0) == SIZE
        except ClosedError:
            return

    for _ in range(rounds):
        reader = Reader(path)
        buffers = [bytearray(SIZE) for _ in range(3)]
        threads = [in_thread(lambda b=b, r=reader: read(r, b)) for b in buffers]
        time.sleep(rng.random() / 200)
        closers = [in_thread(reader.close) for _ in range(2)]
        for close in closers:
            close()
        for buffer in buffers:
            buffer[:] = bytes(SIZE)
        for result in threads:
            result()
        assert all(not any(buffer) for buffer in buffers)
        assert reader.closed
        reader.close()


@pytest.mark.parametrize("forks", [20, pytest.param(300, marks=pytest.mark.stress)])
@isolated(limit=60)
def test_a_child_closes_a_reader_whose_threads_it_has_not(forks: int, tmp_path: Path) -> None:
    """Who was reading in the parent is not there to be waited for."""
    path = content_file(tmp_path)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            assert reader.read_at(SIZE, 0) == CONTENT

    def close() -> None:
        signal.alarm(4)
        reader.close()
        assert reader.closed

    with Reader(path) as reader:
        threads = [in_thread(read) for _ in range(3)]
        try:
            for _ in range(forks):
                in_child(close)
        finally:
            stop.set()
        for result in threads:
            result()


# --- on the way to other processes ----------------------------------------------------------------


FACTORS: dict[str, Any] = {
    "start": ["fork", "spawn", "forkserver"],
    "library": ["multiprocessing", "multiprocess"],
    "kind": ["memfd", "r", "rw"],
    "vehicle": ["process", "pool"],
}


def answer_of(mapping: Mapping) -> list[Any]:
    """What the other side sees; leaves a sign."""
    seen = [mapping[:] == CONTENT, len(mapping), mapping.access, mapping.max_size]
    seen.append(int(mapping.seals))
    if not mapping.readonly:
        mapping[0] = 0
    return seen


def put_answer(mapping: Mapping, answer: Any) -> None:
    answer.put(answer_of(mapping))
    mapping.close()


def expected(kind: str, mapping: Mapping) -> list[Any]:
    return [True, SIZE, mapping.access, mapping.max_size, int(mapping.seals)]


@pytest.mark.parametrize(list(FACTORS), pairwise_cases(FACTORS))
@isolated(fresh=True)
def test_mappings_travel(start: str, library: str, kind: str, vehicle: str, tmp_path: Path) -> None:
    context = importlib.import_module(library).get_context(start)
    with KINDS[kind](tmp_path) as mapping:
        if vehicle == "process":
            answer = context.SimpleQueue()
            process = context.Process(target=put_answer, args=(mapping, answer))
            process.start()
            process.join()
            assert process.exitcode == 0
            process.close()
            seen = answer.get()
            answer.close()
        else:
            with context.Pool(2) as pool:
                seen = pool.map(answer_of, [mapping])[0]
                pool.close()
                pool.join()
        assert seen == expected(kind, mapping)
        assert mapping[0] == (CONTENT[0] if kind == "r" else 0)


@pytest.mark.parametrize("kind", ["memfd", "r", "rw"])
@pytest.mark.parametrize("vehicle", ["shmipc", "multiprocessing"])
@isolated()
def test_mappings_travel_through_a_queue(vehicle: str, kind: str, tmp_path: Path) -> None:
    with made(Queue) as back, KINDS[kind](tmp_path) as mapping:
        there: Any = Queue() if vehicle == "shmipc" else multiprocessing.get_context("fork").Queue()

        def receive() -> None:
            with there.get()[0] as received:
                back.put(answer_of(received))
                back.put(active_count())
            back.put(active_count())
            back.close()
            back.join_thread()

        child = Forked(receive)
        there.put([mapping])
        assert back.get(timeout=30) == expected(kind, mapping)
        with_it, without_it = back.get(timeout=30), back.get(timeout=30)
        assert with_it == without_it + 1
        child.result()
        assert mapping[0] == (CONTENT[0] if kind == "r" else 0)
        there.close()
        there.join_thread()


@isolated()
def test_memory_without_a_descriptor_does_not_travel() -> None:
    with Mapping.anonymous(PAGE) as mapping, pytest.raises(TypeError):
        pickle.dumps(mapping)


@isolated()
def test_threads_send_one_mapping_through_a_queue_all_at_once(tmp_path: Path) -> None:
    count = 50
    with made(Queue) as channel, KINDS["r"](tmp_path) as mapping:

        def receive() -> int:
            right = 0
            for _ in range(4 * count):
                with channel.get(timeout=30) as received:
                    right += received[:] == CONTENT
            return right * (active_count() == inherited)

        inherited = active_count()
        child = Forked(receive)
        senders = [in_thread(lambda: [channel.put(mapping) for _ in range(count)]) for _ in "1234"]
        for result in senders:
            result()
        assert child.result() == 4 * count


# --- over a socket --------------------------------------------------------------------------------


@isolated()
def test_a_mapping_goes_over_a_socket_with_its_seals() -> None:
    left, right = socket.socketpair()
    done = Gate()

    def send() -> None:
        with Mapping(SIZE, max_size=2 * SIZE) as mapping:
            mapping[:] = CONTENT
            mapping.send_fd(left)
            done.wait()
            assert mapping[:5] == b"reply"

    with left, right:
        child = Forked(send)
        with Mapping.recv_fd(right) as mapping:
            assert mapping[:] == CONTENT
            assert mapping.max_size == 2 * SIZE
            assert Seal.SHRINK in mapping.seals
            with pytest.raises(OSError):
                os.ftruncate(descriptor_of(mapping), PAGE)
            mapping[:5] = b"reply"
            done.open()
            child.result()
            mapping.resize(SIZE + PAGE)
            assert mapping[SIZE:] == bytes(PAGE)
    done.close()


def descriptor_of(mapping: Mapping) -> int:
    """Found as another program would find it: what its name says, among the descriptors."""
    for entry in Path("/proc/self/fd").iterdir():
        if os.path.exists(entry) and str(entry.readlink()) == mapping.name:
            return int(entry.name)
    raise AssertionError(f"no descriptor of {mapping.name}")


def unsealed() -> int:
    fd = os.memfd_create("unsealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    return fd


@pytest.mark.parametrize("what", ["unsealed", "file", "too few seals"])
@isolated()
def test_what_its_sender_could_pull_away_is_refused(what: str, tmp_path: Path) -> None:
    left, right = socket.socketpair()

    def send() -> None:
        if what == "too few seals":
            mapping = Mapping(SIZE)
        elif what == "file":
            mapping = Mapping.open(content_file(tmp_path), "rw")
        else:
            mapping = Mapping.open(unsealed(), "rw")
        for _ in range(20):
            mapping.send_fd(left)
        assert left.recv(1) == b"."

    with left, right:
        before = used()
        child = Forked(send)
        for _ in range(20):
            with pytest.raises(LayoutError):
                if what == "too few seals":
                    Mapping.recv_fd(right, seals=Seal.SHRINK | Seal.WRITE)
                else:
                    Mapping.recv_fd(right)
        right.send(b".")
        child.result()
        now = used()
        assert (now[0], now[2]) == (before[0], before[2])


WORDS = [0, 1, 3, PAGE - 1, PAGE + 1, 1 << 20, 1 << 31, 1 << 47, 1 << 62, 1 << 63, (1 << 64) - 1]


def forged(mapping: Mapping, changes: dict[int, int]) -> tuple[bytes, int]:
    """What send_fd sends, with other numbers after its first word; the descriptor is the
    caller's."""
    left, right = socket.socketpair()
    with left, right:
        mapping.send_fd(left)
        message, fds, _, _ = socket.recv_fds(right, 4096, 1)
    words = list(struct.unpack(f"={len(message) // 8}Q", message))
    for place, word in changes.items():
        words[1 + place % (len(words) - 1)] = word
    return struct.pack(f"={len(words)}Q", *words), fds[0]


def forgeries(rng: random.Random, count: int) -> list[dict[int, int]]:
    single = [{place: word} for place in range(4) for word in WORDS]
    pairs = [{0: offset, 1: PAGE, 2: most} for offset in WORDS for most in WORDS]
    return (
        single
        + pairs
        + [
            {place: rng.choice((*WORDS, rng.getrandbits(64))) for place in rng.sample(range(3), 2)}
            for _ in range(count)
        ]
    )


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.stress)])
@isolated(limit=60)
def test_numbers_that_a_sender_makes_up_do_no_harm(count: int) -> None:
    """The mapping that comes of them, if one does, can be read from end to end."""
    before = used()
    with Mapping(SIZE) as mapping:
        mapping[:] = CONTENT
        for changes in forgeries(random.Random(count), count):
            read_forged(mapping, changes)
    now = used()
    assert (now[0], now[2]) == (before[0], before[2])


def read_forged(mapping: Mapping, changes: dict[int, int]) -> None:
    try:
        received = received_forged(mapping, changes)
    except (LayoutError, OSError):
        return
    with received:
        start = received.offset
        assert received[:] == CONTENT[start : start + len(received)], changes
        assert not received or received[-1] == CONTENT[start + len(received) - 1], changes


def received_forged(mapping: Mapping, changes: dict[int, int]) -> Mapping:
    message, fd = forged(mapping, changes)
    left, right = socket.socketpair()
    with left, right:
        socket.send_fds(left, [message], [fd])
        os.close(fd)
        return Mapping.recv_fd(right)
