"""Which persisters on this host work for the storage at a URL, and how far those are whose trainer has died.

Each has a small file in a private folder in memory, made by its trainer before it is started and locked from then on.
The lock says that it lives: unlike a process number it cannot be reused, and it goes however the process ends. The
file's first bytes say how far it is. Whoever looks removes the files that nobody has locked.

A trainer that comes back waits for its *predecessors*, those whose trainer has died: until they have sealed what they
were given, to go on from memory, or until they are gone, to go on from storage. All waits are bounded.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Self

from . import checksum

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  (the folder made in it is private)
_LOOK_S: Final = (0.002, 0.05)
"""First and longest pause between two looks at the predecessors, in seconds."""
_CALLED_OFF_AT: Final = 1
_CONTENT_AT: Final = 2


class State(Enum):
    """How far a persister is. One that has done everything is gone."""

    ATTENDED = b"A"
    """As far as it knows its trainer lives. It may not have read yet what the trainer has sent last."""
    SEALING = b"S"
    """Its trainer is gone, everything was received, not everything is sealed."""
    PERSISTING = b"P"
    """All is sealed, and is still being written or waits for other ranks."""


class Living:
    """A persister's own file. Its lock is shared by all who hold `descriptor`: the trainer until it has started it."""

    def __init__(self, descriptor: int) -> None:
        """Takes over `descriptor`."""
        self.descriptor = descriptor
        self.path = Path(f"/proc/self/fd/{descriptor}").readlink()

    @classmethod
    def announce(cls, url: str, rank: int) -> Self:
        """A new file, locked; in memory that nobody finds where no folder can have it. `url` is the backend's."""
        content = json.dumps({"rank": rank, "trainer": os.getpid(), "started": _started(os.getpid())})
        for parent in _parents():
            with contextlib.suppress(OSError):
                folder = _folder(parent)
                for path in folder.iterdir():  # Of other runs too: nobody may ever look for those again.
                    _look(path)
                return cls(_write(_make(folder / _prefix(url)), content))
        return cls(_write(os.memfd_create("relight-persister"), content))

    def tell(self, state: State) -> None:
        os.pwrite(self.descriptor, state.value, 0)

    def is_called_off(self) -> bool:
        """Whether somebody who knows says that no other rank's shard will come any more."""
        return os.pread(self.descriptor, 1, _CALLED_OFF_AT) == b"!"

    def leave(self) -> None:
        """Let go of the file, for the process that goes on to hold it."""
        os.close(self.descriptor)

    def end(self) -> None:
        """It lives no more."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Seen:
    """A persister that lives, as seen from outside."""

    path: Path
    rank: int
    state: State
    is_predecessor: bool


def everyone(url: str) -> list[Seen]:
    """The persisters of this user on this host for the storage at `url` (as its backend spells it)."""
    found = []
    for parent in _parents():
        with contextlib.suppress(OSError):  # There is none, or it is not ours.
            for path in sorted(_folder(parent).glob(f"{_prefix(url)}*")):
                persister = _look(path)
                if persister is not None:
                    found.append(persister)
    return found


def predecessors(url: str, ranks: Collection[int] | None = None) -> list[Seen]:
    """Those whose trainer has died; `ranks` are those that are meant, None means all."""
    return [each for each in everyone(url) if each.is_predecessor and (ranks is None or each.rank in ranks)]


def wait_sealed(url: str, deadline_s: float, ranks: Collection[int] | None = None) -> bool:
    """Wait until all predecessors have sealed everything they were given; False when `deadline_s` was too short."""
    return _wait(lambda: all(each.state is State.PERSISTING for each in predecessors(url, ranks)), deadline_s)


def wait_persisted(url: str, deadline_s: float, ranks: Collection[int] | None = None) -> bool:
    """Wait until all predecessors are gone: what they were given is committed, or never will be.

    False when `deadline_s` was too short.
    """
    return _wait(lambda: not predecessors(url, ranks), deadline_s)


def call_off(url: str) -> None:
    """Tell the predecessors that no more shards will come: they look once more, commit or give up, and go.

    For whoever knows that the other ranks' persisters are gone, on all hosts.
    """
    for each in predecessors(url):
        with contextlib.suppress(OSError), _opened(each.path) as descriptor:
            os.pwrite(descriptor, b"!", _CALLED_OFF_AT)


def _wait(condition: Callable[[], bool], deadline_s: float) -> bool:
    ends_at, (pause_s, longest_s) = time.monotonic() + deadline_s, _LOOK_S
    while not condition():
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return False
        threading.Event().wait(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, longest_s)
    return True


def _look(path: Path) -> Seen | None:
    """None for one that is gone, whose file is removed."""
    with contextlib.suppress(FileNotFoundError), _opened(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(path, os.pread(descriptor, 1 << 12, 0))
        path.unlink()
    return None


def _read(path: Path, content: bytes) -> Seen | None:
    try:
        told = json.loads(content[_CONTENT_AT:])
        trainer_lives = _started(told["trainer"]) == told["started"]
        return Seen(path, told["rank"], State(content[:1]), not trainer_lives)
    except (ValueError, KeyError, TypeError):  # It is being made in this moment, by a trainer that lives.
        return None


def _started(pid: int) -> int | None:
    """When the process of that number was started, in the kernel's ticks; None when none lives under it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _parents() -> list[Path]:
    return [_SHARED_MEMORY, Path(tempfile.gettempdir())]


def _folder(parent: Path) -> Path:
    """Raises OSError when it cannot be had, or is not this user's alone."""
    folder = parent / f"relight-persisters-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    there = folder.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid() or there.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user")
    return folder


def _prefix(url: str) -> str:
    return f"{checksum.digest(url.encode())[:16]}-"


def _make(prefix: Path) -> int:
    """A new locked file. One who looked between the two calls took it for a dead one's, and has removed it."""
    while True:
        path = prefix.with_name(f"{prefix.name}{secrets.token_hex(8)}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _write(descriptor: int, content: str) -> int:
    try:
        os.pwrite(descriptor, State.ATTENDED.value + b"-" + content.encode(), 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
