"""Memory for what is about to be read: its pages come as they are filled, and may go again one by one."""

from __future__ import annotations

import mmap
import os
from typing import Self

from ...storage.shared_memory import SharedMemory


class Blank(SharedMemory):
    """Anonymous shared memory of `size` bytes without a page in it. Raises OSError.

    Pages that were there before would be cleared first, by one thread, while the disk waits. Here a read brings each
    (and fails with EFAULT when the host has none left), as many at once as there are threads that read.
    """

    def __init__(self, size: int) -> None:  # The maker of the base class has every page there.
        descriptor = os.memfd_create("relight-restore", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, max(size, 1))
        except BaseException:
            os.close(descriptor)
            raise
        self._open(descriptor, size)

    @classmethod
    def join(cls, address: str, size: int) -> Self:
        """Another process's, to be filled together. Raises OSError."""
        memory = cls.__new__(cls)
        memory._open(os.open(address, os.O_RDWR | os.O_CLOEXEC), size)  # noqa: SLF001 -- made here
        return memory

    def _open(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self.path = None
        try:
            self._map = mmap.mmap(descriptor, max(size, 1), flags=mmap.MAP_SHARED)
        except BaseException:
            os.close(descriptor)
            raise
        self.view = memoryview(self._map)[:size]

    def give_back(self, start: int, end: int) -> None:
        """Let the host have the pages that lie whole in [start, end); zeros are there afterwards."""
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if end == self.size:
            last = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
        if first < last:
            self._map.madvise(mmap.MADV_REMOVE, first, last - first)
