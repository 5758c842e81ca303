"""Disks that fail in one place, as real ones do. A fault is an implementation of the disk, not a patch.

`from relight.tests.storage.faults import FailingDisk`
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relight.storage.backends.disk import Disk

if TYPE_CHECKING:
    from pathlib import Path

    from relight.storage.backends.base import Bytes


@dataclass
class FailingDisk(Disk):
    """`operation` fails with `code` on paths that contain `where`, `times` times."""

    operation: str
    code: int
    where: str = ""
    times: int = 1_000_000
    fired: int = 0

    def _may_fail(self, operation: str, path: Path) -> None:
        if operation == self.operation and self.where in str(path) and self.fired < self.times:
            self.fired += 1
            raise OSError(self.code, os.strerror(self.code), str(path))

    def make_dir(self, path: Path) -> bool:
        self._may_fail("make_dir", path)
        return super().make_dir(path)

    def write_new(self, path: Path, data: Bytes) -> None:
        """The disk is full half-way."""
        if self.operation == "write_new" and self.where in str(path) and self.fired < self.times:
            path.write_bytes(memoryview(data).cast("B")[: len(data) // 2])
        self._may_fail("write_new", path)
        super().write_new(path, data)

    def link(self, source: Path, target: Path) -> None:
        self._may_fail("link", target)
        super().link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        self._may_fail("replace", target)
        super().replace(source, target)

    def unlink(self, path: Path) -> None:
        self._may_fail("unlink", path)
        super().unlink(path)

    def remove_dir(self, path: Path) -> None:
        self._may_fail("remove_dir", path)
        super().remove_dir(path)

    def sync_dir(self, path: Path) -> None:
        self._may_fail("sync_dir", path)
        super().sync_dir(path)
