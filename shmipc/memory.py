"""How much memory there is to give, and giving it: at creation, or not at all.

A sparse segment would be a SIGBUS at some later store; a segment here is backed by real pages from
the start, so a full ``/dev/shm`` is an error where it can be handled.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["commit_memory"]

CHUNK = 64 << 20
"""Bytes committed between two looks at pending signals."""


def commit_memory(fd: int, size: int, shown: str) -> None:
    """Backs ``size`` bytes of the file with memory; ``OSError(ENOSPC)`` with a hint if there are
    not as many."""
    room = room_left(fd)
    if room is not None and size > room:
        raise _no_space(size, f"found {_readable(room)} left", shown)
    try:
        for start in range(0, size, CHUNK):
            os.posix_fallocate(fd, start, min(CHUNK, size - start))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
            raise
        raise _no_space(size, f"found {error.strerror}", shown) from None


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
        limits += [limit for limit in (_machine_room(), _cgroup_room()) if limit is not None]
    return min(limits, default=None)


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


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
