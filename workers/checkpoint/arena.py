"""The arena: host memory laid out as the shard file. Staging is a copy into it; the file is written from it."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable

import torch

from ...storage.shards import Piece, ShardLayout
from .dtypes import DTYPES

_SLACK = 1.05
"""Room to grow, so that a header that gets longer does not cost a new arena with its page faults."""


class Arena:
    """One reusable buffer. Its pages stay mapped from save to save: the first touch costs more than the copy."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def reserve(self, size: int) -> memoryview:
        """The first `size` bytes, to be filled. Grows the arena when it must; earlier views keep the old memory."""
        if len(self._memory) < size:
            pages = math.ceil(size * _SLACK / mmap.PAGESIZE)
            self._memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
        return memoryview(self._memory)[:size]

    def stage(self, layout: ShardLayout, source: Callable[[Piece], torch.Tensor]) -> memoryview:
        """Copy every piece of `layout` in place; `source` gives a piece's tensor, of its shape and dtype."""
        view = self.reserve(layout.size)
        view[: len(layout.header)] = layout.header
        for placed in layout.placed:
            if placed.piece.size:
                tensor_at(view, placed.start, placed.piece).copy_(source(placed.piece))
        return view


def tensor_at(view: memoryview, start: int, piece: Piece) -> torch.Tensor:
    """The piece's bytes in `view` as a tensor that shares the memory."""
    if not piece.size:
        return torch.empty(piece.shape, dtype=DTYPES[piece.dtype])
    count = math.prod(piece.shape)
    return torch.frombuffer(view, dtype=DTYPES[piece.dtype], offset=start, count=count).reshape(piece.shape)


def box_of(whole: torch.Tensor, piece: Piece) -> torch.Tensor:
    """The part of a global tensor that the piece covers, as a view."""
    if piece.is_whole:
        return whole
    slices = tuple(slice(start, start + length) for start, length in zip(piece.offset, piece.shape, strict=True))
    return whole[slices]
