"""What the kernel's page cache holds of a file: cachestat(2), Linux 6.5, which reads nothing and changes nothing.

A read that must not wait (RWF_NOWAIT) would tell as well, but makes the kernel read ahead.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

_CACHESTAT: Final = 451
"""The number of the system call, on every architecture but alpha."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = (("start", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Found(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently"))


def cached_bytes(descriptor: int, start: int, length: int) -> int:
    """How many bytes of the range need no device, in whole pages; 0 where the kernel cannot or may not tell."""
    found = _Found()
    asked = _libc.syscall(_CACHESTAT, descriptor, ctypes.byref(_Range(start, length)), ctypes.byref(found), 0)
    return int(found.cached) * mmap.PAGESIZE if asked == 0 else 0
