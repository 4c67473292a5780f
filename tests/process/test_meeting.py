"""Two scripts that are started apart, in either order, and know a name and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from isolation import isolated

import shmipc

FIRST = {
    "barrier": """
import shmipc, sys

barrier = shmipc.Barrier.open(sys.argv[1], 2)
for _ in range(3):
    barrier.wait(50)
print("met")
""",
    "condition": """
import shmipc, sys
state = shmipc.AtomicInt64.open(sys.argv[1] + "-state")
condition = shmipc.Condition.open(sys.argv[1])
with condition:
    assert condition.wait_for(lambda: state.load() == 1, 50)
    state.store(2)
    condition.notify()
print("met")
""",
    "event": """
import shmipc, sys
go, done = (shmipc.Event.open(sys.argv[1] + end) for end in ("", "-done"))
assert go.wait(50)
done.set()
print("met")
""",
    "semaphore": """
import shmipc, sys
ping, pong = (shmipc.Semaphore.open(sys.argv[1] + end, 0) for end in ("", "-pong"))
for _ in range(10):
    assert ping.acquire(timeout=50)
    pong.release()
print("met")
""",
    "rwlock": """
import shmipc, sys
lock = shmipc.RWLock.open(sys.argv[1])
page = shmipc.Segment.open(sys.argv[1] + "-page", 8)
while True:
    with lock.read_lock():
        first, second = page.buf[0], page.buf[1]
    assert first == second
    if first == 100:
        break
print("met")
""",
}

SECOND = {
    "barrier": FIRST["barrier"],
    "condition": """
import shmipc, sys
condition = shmipc.Condition.attach(sys.argv[1], timeout=50)
state = shmipc.AtomicInt64.attach(sys.argv[1] + "-state", timeout=50)
with condition:
    state.store(1)
    condition.notify()
    assert condition.wait_for(lambda: state.load() == 2, 50)
print("met")
""",
    "event": """
import shmipc, sys
done = shmipc.Event.attach(sys.argv[1] + "-done", timeout=50)
shmipc.Event.attach(sys.argv[1], timeout=50).set()
assert done.wait(50)
print("met")
""",
    "semaphore": """
import shmipc, sys
pong = shmipc.Semaphore.attach(sys.argv[1] + "-pong", timeout=50)
ping = shmipc.Semaphore.attach(sys.argv[1], timeout=50)
for _ in range(10):
    ping.release()
    assert pong.acquire(timeout=50)
print("met")
""",
    "rwlock": """
import shmipc, sys
page = shmipc.Segment.attach(sys.argv[1] + "-page", timeout=50)
lock = shmipc.RWLock.attach(sys.argv[1], timeout=50)
for number in range(101):
    with lock.write_lock():
        page.buf[0] = number
        page.buf[1] = number
print("met")
""",
}
NAMES = {
    "barrier": {"": shmipc.Barrier},
    "condition": {"": shmipc.Condition, "-state": shmipc.AtomicInt64},
    "event": {"": shmipc.Event, "-done": shmipc.Event},
    "semaphore": {"": shmipc.Semaphore, "-pong": shmipc.Semaphore},
    "rwlock": {"": shmipc.RWLock, "-page": shmipc.Segment},
}


def start(script: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, script, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("what", FIRST)
@isolated(limit=120)
def test_two_scripts_meet(what: str, order: str, tmp_path: Path, name: str) -> None:
    scripts = [tmp_path / "one.py", tmp_path / "other.py"]
    for script, text in zip(scripts, (FIRST[what], SECOND[what]), strict=True):
        script.write_text(text)
    if order == "second":
        scripts.reverse()
    early = start(scripts[0], name)
    time.sleep(0.3)  # mostly, it waits by now; it has to work without
    late = start(scripts[1], name)
    outputs = [script.communicate()[0] for script in (early, late)]
    for end, cls in NAMES[what].items():
        cls.unlink(name + end)
    assert outputs == ["met\n", "met\n"]
