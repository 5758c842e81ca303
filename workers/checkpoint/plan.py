"""Which rank writes which bytes: a pure function of names, shapes and placements, so no rank has to ask another."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...storage.boxes import Box
from ...storage.shards import ITEM_BYTES, Piece

SMALLEST_CUT_BYTES = 64 << 10
"""A tensor below this size is never cut: its header entry would cost more than the balance gains."""


@dataclass(frozen=True, slots=True)
class Held:
    """The box of a sharded tensor that a rank holds, and all ranks that hold the same one, in ascending order."""

    box: Box
    by: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor as one rank has it: `dtype` by its safetensors name, `shape` the global one.

    `held` is None for a tensor that every rank holds whole; `rank_zero` when of these only rank 0's is the true one.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    rank_zero: bool = False
    held: Held | None = None

    @property
    def box(self) -> Box:
        """What of it is here."""
        return self.held.box if self.held is not None else Box.whole(self.shape)

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return math.prod(self.box.shape) * ITEM_BYTES[self.dtype]


def share(specs: Iterable[TensorSpec], rank: int, world_size: int) -> list[Piece]:
    """The pieces that `rank` writes; over all ranks they cover every tensor exactly once.

    The bytes that the same ranks hold, in order of name, form one line that is cut into as many equal stretches: the
    replicas of one shard, or all ranks of what is not sharded at all. A cut that falls into a tensor moves to the
    nearest row of its dimension 0, so their shares differ by at most a row.
    """
    everybody = range(world_size)
    lines: dict[Iterable[int], list[TensorSpec]] = defaultdict(list)
    pieces = []
    for spec in sorted(specs, key=lambda spec: spec.name):
        if not spec.rank_zero:
            lines[spec.held.by if spec.held is not None else everybody].append(spec)
        elif rank == 0:
            pieces.append(Piece.whole(spec.name, spec.dtype, spec.shape))
    for holders, line in lines.items():
        ranks = list(holders)
        if rank in ranks:
            pieces += _stretch(line, ranks.index(rank), len(ranks))
    return pieces


def _stretch(line: list[TensorSpec], number: int, count: int) -> Iterator[Piece]:
    """What falls into stretch `number` of the `count` that the line is cut into."""
    total = sum(spec.size for spec in line)
    start = 0
    for spec in line:
        first, last = (_row(spec, cut * total / count - start) for cut in (number, number + 1))
        if number == count - 1:
            last = _rows(spec)
        if first < last and (spec.size or not math.prod(spec.shape)):
            yield _rows_of(spec, first, last)
        start += spec.size


def _rows(spec: TensorSpec) -> int:
    """Into how many parts what is here may be cut."""
    if not spec.shape or spec.size < SMALLEST_CUT_BYTES:
        return 1
    return spec.box.shape[0]


def _row(spec: TensorSpec, position: float) -> int:
    """The row of `spec` at which a cut at byte `position` (from its start here, may lie outside) is made."""
    rows = _rows(spec)
    if spec.size == 0:
        return rows if position > 0 else 0
    return max(0, min(rows, math.floor(position * rows / spec.size + 0.5)))


def _rows_of(spec: TensorSpec, first: int, last: int) -> Piece:
    offset, shape = spec.box
    if (first, last) != (0, _rows(spec)):
        offset, shape = (offset[0] + first, *offset[1:]), (last - first, *shape[1:])
    return Piece(spec.name, spec.dtype, shape, spec.shape, offset)
