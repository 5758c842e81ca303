"""The launcher's private scratch directory in memory: heartbeats and failure reports of its workers.

It is removed at the end, and if the launcher was killed, by the next launcher of the same user. A held lock says that
its owner lives: unlike a process number it cannot be reused, and it holds across containers that share `/dev/shm`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PREFIX: Final = "relight-launcher-"
_ANNOUNCEMENT: Final = "launcher.json"
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # The directory made in it is private.


@contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """A fresh private directory under `parent` (`/dev/shm` if it can be written, else the temporary directory)."""
    parent = parent or _default_parent()
    _remove_stale(parent)
    path, lock = _make(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def memory_directory(scratch: Path) -> Path | None:
    """A folder for the workers' state, where the scratch directory is in memory: on a disk it would be no faster."""
    if not scratch.is_relative_to(SHARED_MEMORY):
        return None
    path = scratch / "memory"
    path.mkdir()
    return path


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a living launcher says of itself to other processes of the user. `url`: its run's storage, if it has one."""

    pid: int
    url: str | None
    scratch: Path


def announce(scratch: Path, url: str | None) -> None:
    """Let others on this host find this launcher: see `announcements`."""
    unfinished = scratch / f"{_ANNOUNCEMENT}.new"
    unfinished.write_text(json.dumps({"pid": os.getpid(), "url": url}), encoding="utf-8")
    unfinished.rename(scratch / _ANNOUNCEMENT)


def announcements(parent: Path | None = None) -> list[Announcement]:
    """Of all launchers of this user that live on this host."""
    found = []
    for scratch in sorted((parent or _default_parent()).glob(f"{_PREFIX}*")):
        stale = _lock(scratch)
        if stale is not None:
            os.close(stale)
            continue
        with suppress(OSError, ValueError):  # It has not said anything yet, or it is going.
            facts = json.loads((scratch / _ANNOUNCEMENT).read_text(encoding="utf-8"))
            found.append(Announcement(facts["pid"], facts["url"], scratch))
    return found


def _default_parent() -> Path:
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        lock = _lock(path)
        if lock is not None:
            return path, lock
        # Another launcher took it for stale between the two calls; it is gone: make another.


def _lock(path: Path) -> int | None:
    """The locked directory, or None when somebody else holds it or it is not there any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return descriptor
    os.close(descriptor)
    return None


def _remove_stale(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
