"""The hardware's own limits, measured as contenders: a memory copy, a durable write, a parallel read."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final

import torch

from ..states import Live
from .contender import Contender, Place

_THREADS: Final = 2
_BLOCK: Final = 8 << 20
_PAGE: Final = 4096


class Share(Contender):
    """A rank's part of the state, and a warm buffer of its size, laid out one tensor after the other."""

    def __init__(self, live: Live, place: Place) -> None:
        super().__init__(live, place)
        self._parts = list(_cut(live, self.rank, self.ranks))
        size = sum(part.nbytes for part in self._parts)
        self._memory = mmap.mmap(-1, max(_PAGE, -(-size // _PAGE) * _PAGE))
        flat = torch.frombuffer(self._memory, dtype=torch.uint8)
        flat.fill_(1)  # The first touch of a page costs more than the copy.
        self._targets = []
        for part in self._parts:
            self._targets.append(flat[: part.nbytes].view(part.dtype).view(part.shape))
            flat = flat[part.nbytes :]
        self._copy()

    def _copy(self) -> None:
        for target, part in zip(self._targets, self._parts, strict=True):
            target.copy_(part)


def _cut(live: Live, rank: int, ranks: int) -> Iterator[torch.Tensor]:
    """All tensors as one line of elements, cut into `ranks` equal stretches: the parts of one."""
    tensors = [tensor.view(-1) for tensor in live.tensors()]
    total = sum(tensor.numel() for tensor in tensors)
    first, last = (total * number // ranks for number in (rank, rank + 1))
    start = 0
    for tensor in tensors:
        part = tensor[max(0, first - start) : max(0, min(tensor.numel(), last - start))]
        start += tensor.numel()
        if part.numel():
            yield part


class MemoryCopy(Share):
    title = "warm memory copy"
    loads = False
    note = "each rank copies its share into a warm buffer, all at once: the floor of a stall"

    def save(self, number: int) -> None:  # noqa: ARG002 -- it leaves nothing behind
        self._copy()


class RawDisk(Share):
    """O_DIRECT from and to a page-aligned buffer, or buffered with fsync where the file system refuses that."""

    title = "raw O_DIRECT write, read"
    durable = True
    note: ClassVar[str] = f"{_THREADS} threads a rank, blocks of {_BLOCK >> 20} MiB, fsync of file and folder"

    def save(self, number: int) -> None:
        path = self._path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path, os.O_WRONLY | os.O_CREAT)
        try:
            self._each_block(os.pwritev, descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_folder(path.parent)

    def load(self, number: int) -> None:
        descriptor = _open(self._path(number), os.O_RDONLY)
        try:
            self._each_block(os.preadv, descriptor)
        finally:
            os.close(descriptor)

    def _each_block(self, move: Any, descriptor: int) -> None:
        whole = memoryview(self._memory)

        def one(start: int) -> None:
            block = whole[start : start + _BLOCK]
            moved = move(descriptor, [block], start)
            if moved != len(block):
                raise OSError(errno.EIO, f"{moved} of {len(block)} bytes moved")

        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(one, range(0, len(whole), _BLOCK)))

    def _path(self, number: int) -> Path:
        return Path(self.place.of(number)) / f"raw-{self.rank}"


class RawCachedRead(RawDisk):
    """What a read from the page cache can reach at most: O_DIRECT would go past it."""

    title = "raw buffered read"
    saves = False

    def load(self, number: int) -> None:
        descriptor = os.open(self._path(number), os.O_RDONLY)
        try:
            self._each_block(os.preadv, descriptor)
        finally:
            os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
