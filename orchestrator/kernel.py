"""How many processes the kernel has killed for want of memory: a SIGKILL does not say who sent it, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_COUNT: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """So far, in this process's control group; on the whole host where the group does not count. Compare two of them.

    0 where nobody counts.
    """
    for path in _counters(proc, cgroups):
        try:
            found = _COUNT.search(path.read_text())
        except OSError:
            continue
        if found is not None:
            return int(found[1])
    return 0


def _counters(proc: Path, cgroups: Path) -> Iterator[Path]:
    """Where a count may stand, the most exact first. In a container the group's own folder is mounted as the root."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for _, controllers, group in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if "memory" in controllers.split(","):  # Version 1.
            yield cgroups / "memory" / group.lstrip("/") / "memory.oom_control"
            yield cgroups / "memory" / "memory.oom_control"
    for _, controllers, group in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if not controllers:  # Version 2.
            yield cgroups / group.lstrip("/") / "memory.events"
            yield cgroups / "memory.events"
    yield proc / "vmstat"
