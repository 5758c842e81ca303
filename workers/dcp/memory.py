"""The memory in which a rank's shard is put together: kept, as its first touch costs more than the copy."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PAGE = mmap.PAGESIZE
_SLACK_BYTES = 1 << 20
"""Room to grow, so that a header that gets longer does not cost new memory."""


class Memory:
    """Of one process. It is private: a fork that saves, too, has its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: mmap.mmap | None = None

    @contextmanager
    def lent(self, size: int) -> Iterator[memoryview]:
        """`size` bytes from the start of a page on. Two saves at once have one each; the larger one is kept."""
        memory = self._taken(size)
        try:
            yield memoryview(memory)[:size]
        finally:
            with self._lock:
                if self._kept is None or len(self._kept) < len(memory):
                    self._kept = memory

    def _taken(self, size: int) -> mmap.mmap:
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None and len(kept) >= size:
            return kept
        del kept  # Before there is more: both together may be more than the host has.
        room = -(-(size + _SLACK_BYTES) // _PAGE) * _PAGE
        return mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


MEMORY = Memory()
