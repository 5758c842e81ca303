"""Boxes of tensors: what they share, and which bytes they are."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from relight.storage.boxes import Box, common, distinct, spans, tile
from relight.storage.shards import Piece

BOXES = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=3)


@given(BOXES, st.data())
def test_spans_are_the_bytes_of_a_box_in_its_piece(sides: list[tuple[int, int]], data: st.DataObject) -> None:
    offset, shape = (tuple(side[which] for side in sides) for which in (0, 1))
    whole = tuple(start + length + 2 for start, length in sides)
    inner = [data.draw(st.integers(0, length - 1)) for length in shape]
    lengths = tuple(data.draw(st.integers(1, length - start)) for start, length in zip(inner, shape, strict=True))
    box = Box(tuple(a + b for a, b in zip(offset, inner, strict=True)), lengths)
    piece = Piece("t", "F32", shape, whole, offset)
    marked = np.zeros(shape, dtype=np.int32)
    marked[box.within(Box.of(piece)).slices] = -1
    content = marked.tobytes()
    exact = spans(piece, box, 0)
    assert b"".join(content[start:end] for start, end in exact) == b"\xff" * 4 * math.prod(lengths)
    assert spans(piece, box, 1 << 20) == [(exact[0][0], exact[-1][1])]


@given(BOXES, BOXES)
def test_what_two_boxes_share_is_in_both(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    count = min(len(one), len(other))
    first, second = (Box(*(tuple(side[which] for side in sides[:count]) for which in (0, 1))) for sides in (one, other))
    cells = [
        {*itertools.product(*(range(start, start + length) for start, length in sides[:count]))}
        for sides in (one, other)
    ]
    shared = common(first, second)
    found = set(itertools.product(*(range(part.start, part.stop) for part in shared.slices))) if shared else set()
    assert found == cells[0] & cells[1]


def test_copies_of_a_piece_count_once() -> None:
    upper, lower = (Piece("t", "F32", (2, 3), (4, 3), (row, 0)) for row in (0, 2))
    assert not tile([upper, lower, upper])
    assert distinct([upper, lower, upper], lambda piece: piece) == [upper, lower]
