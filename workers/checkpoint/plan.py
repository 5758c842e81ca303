"""Which rank writes which bytes: a pure function of names, shapes and world size, so no rank has to ask another."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ...storage.shards import ITEM_BYTES, Piece

SMALLEST_CUT_BYTES = 64 << 10
"""A tensor below this size is never cut: its header entry would cost more than the balance gains."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A replicated tensor: `dtype` by its safetensors name. `rank_zero` when only rank 0's copy is the true one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    rank_zero: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def share(specs: Iterable[TensorSpec], rank: int, world_size: int) -> list[Piece]:
    """The pieces that `rank` writes; over all ranks they cover every tensor exactly once.

    All replicated bytes, in order of name, form one line that is cut into `world_size` equal stretches. A cut that
    falls into a tensor moves to the nearest row of its dimension 0, so the shares differ by at most a row.
    """
    ordered = sorted(specs, key=lambda spec: spec.name)
    pieces = [Piece.whole(spec.name, spec.dtype, spec.shape) for spec in ordered if spec.rank_zero and rank == 0]
    line = [spec for spec in ordered if not spec.rank_zero]
    total = sum(spec.size for spec in line)
    start = 0
    for spec in line:
        first, last = (_row(spec, number * total / world_size - start) for number in (rank, rank + 1))
        if rank == world_size - 1:
            last = _rows(spec)
        if first < last:
            pieces.append(_rows_of(spec, first, last))
        start += spec.size
    return pieces


def _rows(spec: TensorSpec) -> int:
    """Into how many parts a tensor may be cut."""
    if not spec.shape or spec.size < SMALLEST_CUT_BYTES:
        return 1
    return spec.shape[0]


def _row(spec: TensorSpec, position: float) -> int:
    """The row of `spec` at which a cut at byte `position` (from the tensor's start, may lie outside) is made."""
    rows = _rows(spec)
    if spec.size == 0:
        return rows if position > 0 else 0
    return max(0, min(rows, math.floor(position * rows / spec.size + 0.5)))


def _rows_of(spec: TensorSpec, first: int, last: int) -> Piece:
    if (first, last) == (0, _rows(spec)):
        return Piece.whole(spec.name, spec.dtype, spec.shape)
    shape = (last - first, *spec.shape[1:])
    return Piece(spec.name, spec.dtype, shape, spec.shape, (first,) + (0,) * (len(shape) - 1))
