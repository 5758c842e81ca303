"""The system calls of a local save, one method each: the seam at which crashes are tried out.

`LocalBackend` decides the order, `Disk` only acts. A test puts a recording or failing disk in its place and sees
exactly the operations that a power cut could separate.
"""

from __future__ import annotations

import os
from pathlib import Path

from .base import Bytes, Source
from .direct import write_all


class Disk:
    """Acts on the real filesystem. Every method raises OSError as the system gives it."""

    def make_dir(self, path: Path) -> bool:
        """Create the folder in one that exists (its name is not durable yet); False when it is there already."""
        if path.is_dir():
            return False
        path.mkdir(exist_ok=True)
        return True

    def write_new(self, path: Path, data: Bytes) -> None:
        """Create `path`, which must not exist, with these bytes and make them durable (not yet their name)."""
        self.write_stream(path, memoryview(data).cast("B"))

    def write_stream(self, path: Path, source: Source) -> None:
        """The same, of bytes that are read while they are written."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_all(descriptor, source)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        """Give the file a second name; fails when the name is taken, which is what makes a commit exclusive."""
        os.link(source, target, follow_symlinks=False)

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_dir(self, path: Path) -> None:
        path.rmdir()

    def sync_dir(self, path: Path) -> None:
        """Make the names in a folder durable. Without it a file that was fsynced is missing after a power cut."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # xfs that has just shut itself down answers the fsync of an open folder with success; opening it tells.
        os.close(os.open(path, flags))
