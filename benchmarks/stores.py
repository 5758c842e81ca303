"""The places that are written to, for all contenders alike: what lies there, taking it away, cold and warm caches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec


def is_remote(url: str) -> bool:
    return "://" in url


def size(url: str) -> int:
    """Bytes of all files or objects below `url`."""
    if is_remote(url):
        return sum(entry["size"] for entry in _filesystem(url).find(url, detail=True).values())
    return sum(path.stat().st_size for path in _files(url))


def remove(url: str) -> None:
    """All below `url`, if there is anything."""
    if is_remote(url):
        with suppress(FileNotFoundError):
            _filesystem(url).rm(url, recursive=True)
        return
    path = Path(url)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def settle(url: str) -> None:
    """Let the kernel write what earlier contenders left in its cache, so that nobody pays for another."""
    if not is_remote(url):
        os.sync()


def make_cold(url: str) -> None:
    """Ask the kernel to forget the files below `url`: the next read comes from the disk."""
    if is_remote(url):
        return
    for path in _files(url):
        with _opened(path) as descriptor:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def make_warm(url: str) -> None:
    """Read the files below `url`, so that the next read comes from the page cache."""
    if is_remote(url):
        return
    for path in _files(url):
        with _opened(path) as descriptor:
            while os.read(descriptor, 8 << 20):
                pass


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _files(url: str) -> list[Path]:
    root = Path(url)
    return [path for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file()]


def _filesystem(url: str) -> Any:
    filesystem, _ = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return filesystem
