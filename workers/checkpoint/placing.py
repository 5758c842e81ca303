"""From the shards' bytes into tensors: what of which shard is needed here, and where each byte of it goes.

Each byte is copied once, from where it was read to where it is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import torch
from torch.distributed.tensor import DTensor

from ...storage.boxes import Box, Span, common, distinct, spans
from ...storage.shards import Piece, Placed, ShardLayout
from .dtypes import DTYPES
from .geometry import held, like, local_part
from .windows import as_bytes, box_of, piece_at

Pair = tuple[torch.Tensor, torch.Tensor]
"""Where to, and what."""


class Target(NamedTuple):
    """A tensor to be filled. `is_new`: what is in it is nobody's, so it may be written before all is proven."""

    tensor: torch.Tensor
    is_new: bool = True


Make = Callable[[str, Piece], Target]
"""Gives what is to be filled, by the tensor's name and any of its pieces, which know its dtype and global shape."""

_CPU = torch.device("cpu")


def new_tensor(_: str, piece: Piece, device: torch.device = _CPU) -> Target:
    """A tensor with memory of its own; what is in it is not said."""
    return Target(torch.empty(piece.global_shape, dtype=DTYPES[piece.dtype], device=device))


def tensor_like(live: object, piece: Piece) -> Target:
    """The same, sharded as `live` is, a DTensor of the same shape."""
    if isinstance(live, DTensor) and tuple(live.shape) == piece.global_shape:
        return Target(like(live, DTYPES[piece.dtype]))
    return new_tensor("", piece)


def can_hold(tensor: object, piece: Piece) -> TypeGuard[torch.Tensor]:
    """Whether it is a plain or a sharded tensor with the piece's dtype and global shape, which may be written."""
    return (
        isinstance(tensor, torch.Tensor)
        and type(tensor) in (torch.Tensor, torch.nn.Parameter, DTensor)
        and (tensor.is_leaf and not tensor.is_meta)
        and tuple(tensor.shape) == piece.global_shape
        and tensor.dtype is DTYPES[piece.dtype]
    )


@dataclass(frozen=True, slots=True)
class Want:
    """A part of a shard's piece that is needed here, and where it goes."""

    shard: int
    placed: Placed
    box: Box
    """Of the global tensor."""
    target: torch.Tensor
    is_new: bool

    def spans(self, gap: int) -> list[Span]:
        """Its bytes in the shard's file; what lies less than `gap` bytes apart is one span."""
        start = self.placed.start
        return [(start + first, start + end) for first, end in spans(self.placed.piece, self.box, gap)]

    def pair(self, shard: torch.Tensor) -> Pair:
        """The copy that is to be made, out of the shard's bytes."""
        piece = self.placed.piece
        return self.target, box_of(piece_at(shard, self.placed), Box.of(piece), self.box)


class Placing:
    """Collects what a rank wants of a checkpoint's shards. No target holds what it should before it is brought."""

    def __init__(self, layouts: Sequence[ShardLayout], rank: int = 0) -> None:
        """Of copies of a piece, `rank` takes the one in the shard of its own number, if that has one."""
        self.wants: list[Want] = []
        pieces: dict[str, list[tuple[int, Placed]]] = defaultdict(list)
        for number, layout in sorted(enumerate(layouts), key=lambda item: item[0] != rank):
            for placed in layout.placed:
                pieces[placed.piece.name].append((number, placed))
        self._pieces = {
            name: parts if len(parts) == 1 else distinct(parts, _piece_of) for name, parts in pieces.items()
        }

    def fill(self, target: Target, name: str) -> None:
        """Have `target`, of its shape and dtype, filled with the global tensor `name`, or what of it is here."""
        tensor = target.tensor
        here = held(tensor, name).box if isinstance(tensor, DTensor) else Box.whole(tuple(tensor.shape))
        local = local_part(tensor)
        for number, placed in self._pieces[name]:
            part = common(here, Box.of(placed.piece))
            if part is not None:
                self.wants.append(Want(number, placed, part, box_of(local, here, part), target.is_new))

    def targets(self, make: Make = new_tensor) -> Mapping[str, torch.Tensor]:
        """All tensors, each made when it is looked up, to be filled."""
        return _Targets(self, make)

    def piece_of(self, name: str) -> Piece:
        """Any of a tensor's pieces: enough to know its dtype and global shape."""
        return self._pieces[name][0][1].piece

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)


def _piece_of(part: tuple[int, Placed]) -> Piece:
    return part[1].piece


def pairs(wants: Sequence[Want], shards: Mapping[int, memoryview]) -> list[Pair]:
    """The copies that give the wants what they want."""
    content = {number: as_bytes(shards[number]) for number in {want.shard for want in wants}}
    return [want.pair(content[want.shard]) for want in wants]


class _Targets(Mapping[str, torch.Tensor]):
    def __init__(self, placing: Placing, make: Make) -> None:
        self._placing = placing
        self._make = make

    def __getitem__(self, name: str) -> torch.Tensor:
        target = self._make(name, self._placing.piece_of(name))
        self._placing.fill(target, name)
        return target.tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._placing)

    def __len__(self) -> int:
        return sum(1 for _ in self._placing)
