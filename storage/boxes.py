"""Boxes of a row-major tensor: as runs of bytes, and whether they make up the whole. Pure arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Self, TypeVar

from .shards import ITEM_BYTES, Piece

T = TypeVar("T")

Span = tuple[int, int]
"""Bytes [start, end)."""


class Box(NamedTuple):
    """A part of a tensor: where it starts and how long it is, in elements per dimension."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Self:
        return cls((0,) * len(shape), shape)

    @classmethod
    def of(cls, piece: Piece) -> Self:
        return cls(piece.offset, piece.shape)

    @property
    def is_empty(self) -> bool:
        return 0 in self.shape

    def within(self, outer: Box) -> Box:
        """The same box, seen from where `outer` starts."""
        return Box(tuple(here - there for here, there in zip(self.offset, outer.offset, strict=True)), self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """What indexes it in its tensor."""
        return tuple(slice(start, start + length) for start, length in zip(self.offset, self.shape, strict=True))


def common(one: Box, other: Box) -> Box | None:
    """What two boxes of one tensor share; None when that is nothing."""
    if one == other:  # As it mostly is: no arithmetic for each of thousands.
        return None if one.is_empty else one
    sides = list(zip(one.offset, one.shape, other.offset, other.shape, strict=True))
    offset = tuple(max(a, b) for a, _, b, _ in sides)
    shape = tuple(min(a + m, b + n) - start for (a, m, b, n), start in zip(sides, offset, strict=True))
    return Box(offset, shape) if all(length > 0 for length in shape) else None


def spans(piece: Piece, box: Box, gap: int) -> list[Span]:
    """Which of the piece's own bytes hold `box` (of the global tensor, inside the piece).

    What lies less than `gap` bytes apart is one span: nobody reads around so little.
    """
    if box == Box.of(piece):
        return [(0, piece.size)] if piece.size else []
    inner = box.within(Box.of(piece))
    found: list[Span] = []
    for _, start, length in byte_runs(Piece(piece.name, piece.dtype, inner.shape, piece.shape, inner.offset)):
        if found and start - found[-1][1] < gap:
            found[-1] = (found[-1][0], start + length)
        else:
            found.append((start, start + length))
    return found


def byte_runs(piece: Piece) -> Iterator[tuple[int, int, int]]:
    """(start in the piece, start in the global tensor, length), in bytes, of each contiguous run of the piece.

    Trailing dimensions that the piece spans whole are merged, so a cut along dimension 0 is a single run.
    """
    item = ITEM_BYTES[piece.dtype]
    dims = len(piece.shape)
    inner = dims  # First dimension of the contiguous tail.
    while inner > 0 and piece.shape[inner - 1] == piece.global_shape[inner - 1]:
        inner -= 1
    inner = max(inner - 1, 0)  # One partially covered dimension is contiguous as well.
    run = math.prod(piece.shape[inner:]) * item
    if run == 0:
        return
    strides = [math.prod(piece.global_shape[dim + 1 :]) * item for dim in range(dims)]
    base = sum(start * stride for start, stride in zip(piece.offset, strides, strict=True))
    outer = piece.shape[:inner]
    for number in range(math.prod(outer)):
        position = base
        rest = number
        for dim in reversed(range(inner)):
            rest, index = divmod(rest, outer[dim])
            position += index * strides[dim]
        yield number * run, position, run


def distinct(parts: Iterable[T], piece_of: Callable[[T], Piece]) -> list[T]:
    """Of parts that are copies of the same piece, the first.

    Ranks that hold the same shard of a tensor without knowing of each other (data parallel beside tensor parallel, on
    what is not cut by the latter) each write theirs.
    """
    first: dict[tuple[str, Box], T] = {}
    for part in parts:
        piece = piece_of(part)
        first.setdefault((piece.name, Box.of(piece)), part)
    return list(first.values())


def tile(pieces: Sequence[Piece]) -> bool:
    """Whether pieces of one tensor (at least one) cover every element of it exactly once.

    Boxes that do not overlap and hold as many elements as the whole are a tiling. Sorted by where they start in
    dimension 0, each need be compared only with those that start before it ends: tensors are mostly cut there.
    """
    boxes = sorted((piece for piece in pieces if piece.size), key=lambda piece: piece.offset)
    if any(_overlap(box, other) for number, box in enumerate(boxes) for other in _reached(box, boxes, number + 1)):
        return False
    return sum(math.prod(box.shape) for box in boxes) == math.prod(pieces[0].global_shape)


def _reached(box: Piece, boxes: list[Piece], start: int) -> Iterator[Piece]:
    """The boxes from `start` on that begin before `box` ends in dimension 0."""
    for other in itertools.islice(boxes, start, None):
        if box.shape and other.offset[0] >= box.offset[0] + box.shape[0]:
            return
        yield other


def _overlap(one: Piece, other: Piece) -> bool:
    sides = zip(one.offset, one.shape, other.offset, other.shape, strict=True)
    return all(a < b + length_b and b < a + length_a for a, length_a, b, length_b in sides)
