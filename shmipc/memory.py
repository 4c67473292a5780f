"""How much memory there is to give, and giving it: at creation, or not at all.

A sparse segment would be a SIGBUS at some later store; a segment here is backed by real pages from
the start, so a full ``/dev/shm`` is an error where it can be handled.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = [
    "check_room",
    "commit_memory",
    "huge_page_size",
    "mappings_are_used_up",
    "memory_limits",
]

CHUNK = 64 << 20
"""Bytes committed between two looks at pending signals."""


def commit_memory(fd: int, size: int, shown: str, begin: int = 0) -> None:
    """Backs ``size`` bytes of the file from ``begin`` on with memory; ``OSError(ENOSPC)`` with a
    hint if there are not as many."""
    check_room(room_left(fd), size, shown)
    try:
        for start in range(begin, begin + size, CHUNK):
            os.posix_fallocate(fd, start, min(CHUNK, begin + size - start))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
            raise
        raise _no_space(size, f"found {error.strerror}", shown) from None


def check_room(room: int | None, size: int, shown: str) -> None:
    """`OSError(ENOSPC)` with a hint if ``size`` bytes are more than ``room``."""
    if room is not None and size > room:
        raise _no_space(size, f"found {_readable(room)} left", shown)


def _no_space(size: int, found: str, shown: str) -> OSError:
    hint = "ask for less, or enlarge /dev/shm (docker run --shm-size) or the memory limit"
    return OSError(errno.ENOSPC, f"expected {_readable(size)}, {found}: {hint}", shown)


def _readable(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def room_left(fd: int) -> int | None:
    """Bytes that may still be had behind ``fd``: the least of what its file system, this control
    group and the machine have left.  None if nobody sets a limit."""
    limits = []
    volume = os.fstatvfs(fd)
    if volume.f_blocks:
        limits.append(volume.f_bavail * volume.f_frsize)
    if not volume.f_blocks or _is_in_memory(fd):
        limits += memory_limits()
    return min(limits, default=None)


def memory_limits() -> list[int]:
    """Bytes that the machine has left, and this control group, where they are known."""
    return [limit for limit in (_machine_room(), _cgroup_room()) if limit is not None]


def _is_in_memory(fd: int) -> bool:
    device = os.fstat(fd).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in _lines("/proc/self/mountinfo"):
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == wanted:
            return source.split()[0] in ("tmpfs", "ramfs", "shmem")
    return False


def _machine_room() -> int | None:
    facts = {}
    for line in _lines("/proc/meminfo"):
        name, _, value = line.partition(":")
        facts[name] = int(value.split()[0]) * 1024
    if "MemAvailable" not in facts:
        return None
    return facts["MemAvailable"] + facts.get("SwapFree", 0)


def _cgroup_room() -> int | None:
    """What the innermost control group (v2) that sets a limit has left."""
    for line in _lines("/proc/self/cgroup"):
        number, _, path = line.split(":", 2)
        if number != "0":
            continue
        group = Path("/sys/fs/cgroup" + path)
        for folder in (group, *group.parents):
            limit = "".join(_lines(folder / "memory.max")).strip()
            used = "".join(_lines(folder / "memory.current")).strip()
            if limit.isdigit() and used.isdigit():
                return max(int(limit) - int(used), 0)
    return None


def huge_page_size() -> int | None:
    """Bytes of a huge page of the default size; None if the system has none."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1]) * 1024
    return None


def mappings_are_used_up() -> str | None:
    """What the limit on mappings of a process is, if this one has reached it."""
    limit = "".join(_lines("/proc/sys/vm/max_map_count")).strip()
    used = _count_lines("/proc/self/maps")
    if limit.isdigit() and used + 8 >= int(limit):
        return f"expected fewer mappings than vm.max_map_count = {limit}, found {used}"
    return None


def _count_lines(path: str) -> int:
    """By small pieces: where no mapping can be had, no memory for a large file can."""
    lines = 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while piece := os.read(fd, 4096):
            lines += piece.count(b"\n")
    finally:
        os.close(fd)
    return lines


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
