"""Large transfers between memory and a file, past the page cache where the filesystem takes that (O_DIRECT).

Through the cache a write costs a copy, and the kernel's write-back is slower than the device: on ext4 a durable write
of 512 MiB took three to six times as long. Which filesystem, memory and length it takes is asked by trying; what is
refused goes through the cache.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sized
from typing import Final

from .base import Source
from .page_cache import cached_bytes

_PAGE: Final = 4096
"""Bytes: what O_DIRECT wants offsets, lengths and memory aligned to, at the most."""

_WORTH_BYTES: Final = 1 << 20
"""What is smaller is likely read again soon, and as fast through the cache."""

_CALL_BYTES: Final = 64 << 20
"""Written in one call. Within one the kernel keeps the device's queue full, between two it runs empty."""

_REFUSED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


def write_all(descriptor: int, data: Source) -> None:
    """Write all of `data` to an empty file. Nothing is durable before the caller's fsync."""
    done = 0
    if len(data) >= _WORTH_BYTES:
        with _as_far_as_taken(), _past_the_cache(descriptor):
            while done < _whole(data):
                done += os.write(descriptor, data[done : min(done + _CALL_BYTES, _whole(data))])
    while done < len(data):
        done += os.write(descriptor, data[done : done + _CALL_BYTES])


def read_fully(descriptor: int, start: int, buffer: memoryview) -> int:
    """Fill `buffer` from offset `start`; returns the bytes read, fewer only at the end of the file.

    What is mostly in the page cache is copied from there. The descriptor must be the caller's alone.
    """
    done = 0
    if len(buffer) >= _WORTH_BYTES and cached_bytes(descriptor, start, len(buffer)) < len(buffer) // 2:
        with _as_far_as_taken(), _past_the_cache(descriptor):
            while done < _whole(buffer) and (got := _read(descriptor, start + done, buffer[done : _whole(buffer)])):
                done += got
    while done < len(buffer) and (got := _read(descriptor, start + done, buffer[done:])):
        done += got
    return done


def _read(descriptor: int, start: int, buffer: memoryview) -> int:
    return os.preadv(descriptor, [buffer], start)


def _whole(data: Sized) -> int:
    """Its length in bytes, without what does not fill a page at its end."""
    return len(data) // _PAGE * _PAGE


@contextlib.contextmanager
def _past_the_cache(descriptor: int) -> Iterator[None]:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
    try:
        yield
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


@contextlib.contextmanager
def _as_far_as_taken() -> Iterator[None]:
    """A refusal ends the block and is no error: what was done until then is done."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
