"""Memory for what is about to be read: its pages come as they are filled."""

from __future__ import annotations

import mmap
import os

from ...storage.shared_memory import SharedMemory


class Blank(SharedMemory):
    """Anonymous shared memory of `size` bytes without a page in it. Raises OSError.

    Pages that were there before would be cleared first, by one thread, while the disk waits. Here a read brings each
    (and fails with EFAULT when the host has none left), as many at once as there are threads that read.
    """

    def __init__(self, size: int) -> None:  # The maker of the base class has every page there.
        self.descriptor = os.memfd_create("relight-restore", os.MFD_CLOEXEC)
        self.size = size
        self.path = None
        try:
            os.ftruncate(self.descriptor, max(size, 1))
            self._map = mmap.mmap(self.descriptor, max(size, 1), flags=mmap.MAP_SHARED)
        except BaseException:
            os.close(self.descriptor)
            raise
        self.view = memoryview(self._map)[:size]
