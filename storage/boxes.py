"""Boxes of a row-major tensor: as runs of bytes, and whether they make up the whole. Pure arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from .shards import ITEM_BYTES, Piece


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
