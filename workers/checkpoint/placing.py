"""From the shards' bytes into tensors: each byte is copied once, from where it was read to where it is needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

import torch

from ...storage.shards import Piece, ShardLayout
from .dtypes import DTYPES
from .windows import as_bytes, box_of, piece_at

Pair = tuple[torch.Tensor, torch.Tensor]
"""Where to, and what."""

Make = Callable[[str, Piece], torch.Tensor]
"""Gives the tensor to be filled, by its name and any of its pieces, which know its dtype and global shape."""

_CPU = torch.device("cpu")


def new_tensor(_: str, piece: Piece, device: torch.device = _CPU) -> torch.Tensor:
    """A tensor with memory of its own; what is in it is not said."""
    return torch.empty(piece.global_shape, dtype=DTYPES[piece.dtype], device=device)


def can_hold(tensor: object, piece: Piece) -> TypeGuard[torch.Tensor]:
    """Whether it is a plain tensor with the piece's dtype and global shape, which may be written."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and isinstance(tensor, torch.Tensor)
        and (tensor.is_leaf and not tensor.is_meta)
        and tuple(tensor.shape) == piece.global_shape
        and tensor.dtype is DTYPES[piece.dtype]
    )


class Placing:
    """Collects what is to be copied out of the shards into which tensors; `pairs` are the copies, target first.

    No target holds what it should before they are made.
    """

    def __init__(self, layouts: tuple[ShardLayout, ...], shards: Mapping[int, memoryview]) -> None:
        self.pairs: list[Pair] = []
        parts: dict[str, list[tuple[Piece, torch.Tensor]]] = defaultdict(list)
        for number, layout in enumerate(layouts):
            shard = as_bytes(shards[number])
            for placed in layout.placed:
                source = piece_at(shard, placed) if placed.piece.size else torch.empty(0)
                parts[placed.piece.name].append((placed.piece, source))
        self._parts = dict(parts)

    def fill(self, target: torch.Tensor, name: str) -> None:
        """Give `target`, of its shape and dtype, the global tensor `name`."""
        for piece, source in self._parts[name]:
            if piece.size:
                self.pairs.append((box_of(target.detach(), piece), source))

    def targets(self, make: Make = new_tensor) -> Mapping[str, torch.Tensor]:
        """All tensors, each made when it is looked up, to be filled."""
        return _Targets(self, make)

    def piece_of(self, name: str) -> Piece:
        """Any of a tensor's pieces: enough to know its dtype and global shape."""
        return self._parts[name][0][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)


class _Targets(Mapping[str, torch.Tensor]):
    def __init__(self, placing: Placing, make: Make) -> None:
        self._placing = placing
        self._make = make

    def __getitem__(self, name: str) -> torch.Tensor:
        target = self._make(name, self._placing.piece_of(name))
        self._placing.fill(target, name)
        return target

    def __iter__(self) -> Iterator[str]:
        return iter(self._placing)

    def __len__(self) -> int:
        return sum(1 for _ in self._placing)
