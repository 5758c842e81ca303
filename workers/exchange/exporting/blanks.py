"""Tensors that stand for stored ones: addresses without memory behind them, as nothing is ever written there.

What pickles or plans tensors sees real ones, with shape, dtype and storage; whoever writes the file asks by address
which stored tensor is meant, and streams it.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Final

import torch

from ....storage.shards import Piece
from ...checkpoint.dtypes import DTYPES

_ALIGNMENT: Final = 64
_FLAGS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)


class Blanks:
    """One tensor for each piece, by name. They are not to be read or written: that would bring pages of zeros."""

    def __init__(self, pieces: Mapping[str, Piece]) -> None:
        starts = {}
        end = 0
        for name, piece in pieces.items():
            starts[name] = end
            end += -(-piece.size // _ALIGNMENT) * _ALIGNMENT
        self._map = mmap.mmap(-1, max(end, 1), flags=_FLAGS)
        self.tensors = {name: self._tensor(pieces[name], start) for name, start in starts.items()}
        self._names = {tensor.data_ptr(): name for name, tensor in self.tensors.items() if tensor.numel()}

    def name_of(self, address: int) -> str | None:
        """Which stored tensor the storage at this address stands for; None for one that is nobody's blank."""
        return self._names.get(address)

    def _tensor(self, piece: Piece, start: int) -> torch.Tensor:
        dtype = DTYPES[piece.dtype]
        if piece.size == 0:
            return torch.empty(piece.shape, dtype=dtype)
        count = piece.size // dtype.itemsize
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start).view(piece.shape)
