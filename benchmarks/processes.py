"""What processes cost, as the kernel counts it: CPU seconds, memory, bytes read. For a process and all below it."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """Become the parent of whatever our descendants leave behind, so that it is counted as theirs."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Be killed when the process that forked this one ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def below(ancestor: int) -> list[int]:
    """The processes that descend from `ancestor`, without itself."""
    parents = dict(_parents())
    found = {ancestor}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found - {ancestor})


def cpu_seconds(ancestor: int) -> float:
    """User and system time of all processes below `ancestor`, those that have ended and were waited for included."""
    total = 0.0
    for pid in (ancestor, *below(ancestor)):
        with suppress(*_GONE):
            fields = _stat(pid)
            own = 0 if pid == ancestor else int(fields[11]) + int(fields[12])
            total += (own + int(fields[13]) + int(fields[14])) * _TICK_S
    return total


def memory_bytes(ancestor: int) -> int:
    """Anonymous and shared memory in use below `ancestor`. What several processes map is counted once.

    By its size, and not by each process's part of it, which changes while one is looked at after the other. File pages
    are left out: the kernel takes them back when it wants to.
    """
    anonymous = 0
    shared: dict[tuple[int, int], int] = {}
    for pid in below(ancestor):
        with suppress(*_GONE):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
                if line.startswith("Pss_Anon:"):
                    anonymous += int(line.split()[1]) << 10
            shared |= _shared_memory(pid)
    return anonymous + sum(shared.values())


def _shared_memory(pid: int) -> dict[tuple[int, int], int]:
    """The bytes of each piece of shared memory that a process maps, by device and inode."""
    found = {}
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        span, _, _, _, inode, *name = line.split(maxsplit=5)
        if inode != "0" and name and name[0].startswith(("/memfd:", "/dev/shm/", "/dev/zero")):  # noqa: S108
            with suppress(*_GONE):
                there = os.stat(f"/proc/{pid}/map_files/{span}")  # noqa: PTH116 -- it may be deleted
                found[there.st_dev, there.st_ino] = there.st_blocks * 512
    return found


class MemoryWatch:
    """Looks at the memory below this process every few milliseconds; asked afterwards for what it saw in a time."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def look(self) -> None:
        self._seen.append((time.monotonic(), memory_bytes(os.getpid())))

    def peak(self, begin: float, end: float) -> int:
        """The most that was seen from `begin` to `end` (monotonic clock), less what was seen last before `begin`."""
        before = [seen for at, seen in self._seen if at <= begin]
        during = [seen for at, seen in self._seen if begin < at <= end]
        return max(during) - before[-1] if before and during else 0


def bytes_read() -> int:
    """What this process has read from files so far, from the disk or from the page cache. Sockets do not count."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="utf-8").splitlines())
    return int(counters["rchar"])


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(*_GONE):
                yield int(entry.name), int(_stat(int(entry.name))[1])


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (the state) on: the second, the name, may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
