"""Tensors that look at a shard's bytes where they lie. Nothing is copied."""

from __future__ import annotations

import math
import warnings

import torch

from ...storage.boxes import Box
from ...storage.shards import ITEM_BYTES, Piece, Placed
from .dtypes import DTYPES


def as_bytes(view: memoryview) -> torch.Tensor:
    """`view` as a tensor of bytes that shares the memory. It may be read-only: then a write would kill this process."""
    if not len(view):
        return torch.empty(0, dtype=torch.uint8)
    with warnings.catch_warnings():
        # torch knows no read-only tensors and warns of each. These are only ever copied from.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(view, dtype=torch.uint8)


def piece_at(shard: torch.Tensor, placed: Placed) -> torch.Tensor:
    """The piece in the bytes of its shard, as a tensor of its shape and dtype."""
    piece = placed.piece
    data = shard[placed.start : placed.start + piece.size]
    if placed.start % ITEM_BYTES[piece.dtype]:
        data = data.clone()  # No shard of ours is laid out like that, but the format allows it.
    return data.view(DTYPES[piece.dtype]).reshape(piece.shape)


def tensor_at(view: memoryview, start: int, piece: Piece) -> torch.Tensor:
    """The piece's bytes in `view` as a tensor that shares the memory."""
    if not piece.size:
        return torch.empty(piece.shape, dtype=DTYPES[piece.dtype])
    count = math.prod(piece.shape)
    return torch.frombuffer(view, dtype=DTYPES[piece.dtype], offset=start, count=count).reshape(piece.shape)


def box_of(local: torch.Tensor, held: Box, box: Box) -> torch.Tensor:
    """A part of a global tensor, as a view of what of it is here: `local` is its box `held`, in which `box` lies."""
    return local if box == held else local[box.within(held).slices]
