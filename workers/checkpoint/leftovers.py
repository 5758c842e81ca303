"""What earlier workers of a rank have left in the memory filesystem of this host."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ...storage.errors import Damaged
from ...storage.shared_memory import SharedMemory
from ...storage.staged import Seal

_IN_USE = (errno.EAGAIN, errno.EACCES)


def sealed(rank: int, folder: Path | None) -> Iterator[tuple[Seal, SharedMemory]]:
    """What earlier workers of this rank have staged as a whole on this host, for reading."""
    for path in sorted(folder.glob(f"{prefix(rank)}*.seal")) if folder is not None else ():
        # Taken away or replaced in this moment, by the persister that seals its last one: as if it were not there.
        with contextlib.suppress(OSError, Damaged):
            seal = Seal.from_bytes(path.read_bytes(), path.name)
            yield seal, SharedMemory.attach(path.with_suffix(".arena"), seal.receipt.size)


def adopted(path: Path) -> SharedMemory | None:
    """The memory in `path`, locked for us; None when somebody uses it or takes it away."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return SharedMemory(descriptor, os.fstat(descriptor).st_size, path)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _IN_USE:
            raise
        return None


def sealed_step(seal: Path) -> int:
    """Of which step an arena's content is, by its seal; -1 when it is not whole."""
    with contextlib.suppress(FileNotFoundError, Damaged):
        return Seal.from_bytes(seal.read_bytes(), seal.name).step
    return -1


def prefix(rank: int) -> str:
    return f"rank-{rank:05d}."
