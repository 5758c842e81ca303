"""Memory of this host that several processes share: the trainer writes it, the persister and other ranks read it.

It is a file in a memory filesystem when it is to be found again after its maker has died, and anonymous otherwise.
Nothing of it outlives the host; anonymous memory goes with the last process that holds it.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Self

_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # Linux; elsewhere pages are mapped at the first touch.


class SharedMemory:
    """`size` bytes from offset 0 of `descriptor`, mapped as `view`. `path` is None for anonymous memory.

    The memory is there as long as anybody maps it or holds a descriptor of it; `close` lets go of this process's.
    """

    def __init__(self, descriptor: int, size: int, path: Path | None = None, *, private: bool = False) -> None:
        """Takes over `descriptor`. `private`: for a reader, whose own writes (there are none) nobody would see.

        Raises OSError when it cannot be mapped.
        """
        self.descriptor = descriptor
        self.size = size
        self.path = path
        # A private map of pages that are all touched for writing would be a copy of them.
        flags = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED | _POPULATE
        self._map = mmap.mmap(descriptor, max(size, 1), flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self.view = memoryview(self._map)[:size]

    @classmethod
    def create(cls, size: int, path: Path | None = None) -> Self:
        """New memory, every page of it there: the first write must not meet a full filesystem, which would kill us.

        Raises OSError (ENOSPC when the filesystem of `path`, or the host, has no room; EEXIST when `path` is taken).
        """
        if path is None:
            descriptor = os.memfd_create("relight", os.MFD_CLOEXEC)
        else:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, max(size, 1))
            return cls(descriptor, size, path)
        except BaseException:
            os.close(descriptor)
            if path is not None:
                path.unlink(missing_ok=True)
            raise

    @classmethod
    def attach(cls, address: str | Path, size: int) -> Self:
        """Another process's memory, for reading. Raises OSError (EOVERFLOW when it is smaller than `size`)."""
        descriptor = os.open(address, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _refuse_shorter(descriptor, size)
            return cls(descriptor, size, private=True)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def address(self) -> str:
        """What a process of the same user on this host can `attach` while this one lives, or the file is there."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}" if self.path is None else str(self.path)

    def close(self) -> None:
        """Let go of it. What somebody still looks at stays mapped until the last look."""
        os.close(self.descriptor)
        self.view = memoryview(b"")
        del self._map


def _refuse_shorter(descriptor: int, size: int) -> None:
    """Beyond the memory's end a read would kill this process."""
    if os.fstat(descriptor).st_size < size:
        raise OSError(errno.EOVERFLOW, "the shared memory is shorter than expected")
