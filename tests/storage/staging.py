"""Staged shards in real shared memory, as a trainer hands them to its persister.

`from relight.tests.storage.staging import Stage`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relight.storage.mappings import Identity, identity_of
from relight.storage.shared_memory import SharedMemory
from relight.storage.staged import Staged

if TYPE_CHECKING:
    from pathlib import Path


class Stage:
    """Makes them, each in memory of its own, and gives all of it back at the end."""

    def __init__(self) -> None:
        self._memories: list[SharedMemory] = []

    def __call__(self, data: memoryview | bytes, seal: Path | None = None) -> Staged:
        memory = SharedMemory.create(len(data))
        memory.view[:] = data
        self._memories.append(memory)
        return Staged(descriptor=memory.descriptor, view=memory.view, seal=seal)

    def identity(self, staged: Staged) -> Identity:
        return identity_of(staged.descriptor)

    def close(self) -> None:
        for memory in self._memories:
            memory.close()
