"""Other processes' memory, mapped once and kept mapped: mapping 512 MiB anew costs as much as hashing it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection

from .shared_memory import SharedMemory

Identity = tuple[int, int]
"""Device and inode: which memory it is, whoever holds it by whatever descriptor."""


def identity_of(descriptor: int) -> Identity:
    """Raises OSError when nothing is open under that number."""
    there = os.fstat(descriptor)
    return there.st_dev, there.st_ino


class Mappings:
    """Memory by its identity. A mapping keeps the memory there, but holds no lock of whoever sent the descriptor."""

    def __init__(self) -> None:
        self._mapped: dict[Identity, SharedMemory] = {}
        self._lock = threading.Lock()

    def view(self, descriptor: int, size: int) -> memoryview:
        """The first `size` bytes behind `descriptor`, which may be closed afterwards.

        Raises OSError when they cannot be mapped (EOVERFLOW: there are fewer).
        """
        with self._lock:
            identity, there = identity_of(descriptor), os.fstat(descriptor).st_size
            if there < size:  # A read beyond its end would kill this process.
                raise OSError(errno.EOVERFLOW, f"the staged memory has {there} bytes, not {size}")
            memory = self._mapped.get(identity)
            if memory is None or memory.size < size:
                # By its address: `mmap` keeps a duplicate of the descriptor, and a lock on that would never be let go.
                memory = self._mapped[identity] = SharedMemory.attach(f"/proc/self/fd/{descriptor}", there)
            return memory.view[:size]

    def drop_all_but(self, living: Collection[Identity]) -> None:
        """Let go of memory that its owner has let go of. What is still looked at stays until the last look."""
        with self._lock:
            for identity in self._mapped.keys() - set(living):
                self._mapped.pop(identity).close()
