"""A real filesystem whose power can be cut. It needs root.

`from relight.tests.crash.medium import Medium`
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAKE: Final = {
    "ext4": ("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1"),
    "xfs": ("mkfs.xfs", "-q", "-K"),
}
KINDS: Final = tuple(MAKE)
SIZE: Final = {"ext4": 64 << 20, "xfs": 320 << 20}
"""Bytes; xfs is not made any smaller."""
SHUTDOWN: Final = 2 << 30 | 4 << 16 | ord("X") << 8 | 125  # FS_IOC_SHUTDOWN = _IOR('X', 125, __u32)
NO_LOG_FLUSH: Final = 2


class Medium:
    """A filesystem in a file in memory, whose power can be cut."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.point = folder / "disk"
        self.point.mkdir()
        self._kind = kind.encode()
        self._libc = ctypes.CDLL(None, use_errno=True)
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(SIZE[kind])
        subprocess.run([*MAKE[kind], image], check=True)
        attach = subprocess.run(["losetup", "--find", "--show", image], check=True, stdout=subprocess.PIPE, text=True)
        self._device = attach.stdout.strip()
        self._held = os.open(self._device, os.O_RDONLY | os.O_CLOEXEC)
        # A device in use is detached when nobody uses it any more: from here on that needs nobody who cleans up.
        subprocess.run(["losetup", "--detach", self._device], check=True)
        image.unlink()

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        self._call("mount", self._device.encode(), bytes(self.point), self._kind, 0, None)
        try:
            yield self.point
        finally:
            self._call("umount2", bytes(self.point), 0)

    def cut_power(self) -> None:
        """What is not on the medium at this moment, the filesystem's log included, never gets there."""
        point = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(point, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(point)

    def close(self) -> None:
        os.close(self._held)

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}", str(self.point))
