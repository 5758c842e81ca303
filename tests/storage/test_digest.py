"""One digest for one global state, however it was cut, and no digest of what does not make up a whole."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.storage.arrangement import plan
from relight.storage.backends.local import LocalBackend
from relight.storage.boxes import byte_runs, tile
from relight.storage.catalog import Catalog
from relight.storage.digest import digest
from relight.storage.errors import Damaged
from relight.storage.persist import persist
from relight.storage.shards import ITEM_BYTES, Piece
from relight.tests.storage.checkpoints import attempt_id, job

Cut = list[Piece]


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """A tensor in boxes: cut again and again, anywhere along any dimension."""
    whole = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    dtype = draw(st.sampled_from(["U8", "F16", "F32", "F64"]))
    boxes = [((0,) * len(whole), whole)]
    for _ in range(draw(st.integers(0, 6))):
        offset, shape = boxes.pop(draw(st.integers(0, len(boxes) - 1)))
        if not whole:
            boxes.append((offset, shape))
            break
        dim = draw(st.integers(0, len(whole) - 1))
        at = draw(st.integers(0, shape[dim]))
        boxes.append((offset, (*shape[:dim], at, *shape[dim + 1 :])))
        after = (*offset[:dim], offset[dim] + at, *offset[dim + 1 :])
        boxes.append((after, (*shape[:dim], shape[dim] - at, *shape[dim + 1 :])))
    return [Piece("w", dtype, shape, whole, offset) for offset, shape in boxes]


def slowly(piece: Piece) -> list[int]:
    """Where each byte of the piece lies in the global tensor, element by element."""
    item = ITEM_BYTES[piece.dtype]
    found: list[int] = []
    for index in itertools.product(*map(range, piece.shape)):
        position = 0
        for number, (start, length) in enumerate(zip(piece.offset, piece.global_shape, strict=True)):
            position = position * length + start + index[number]
        found += range(position * item, position * item + item)
    return found


@settings(max_examples=300, deadline=None)
@given(cuts())
def test_runs_say_where_every_byte_lies(cut: Cut) -> None:
    for piece in cut:
        fast: list[int] = [-1] * piece.size
        for source, target, length in byte_runs(piece):
            fast[source : source + length] = range(target, target + length)
        assert fast == slowly(piece)


def test_a_cut_along_the_first_dimension_is_a_single_run() -> None:
    assert list(byte_runs(Piece("w", "F32", (2, 5, 7), (4, 5, 7), (1, 0, 0)))) == [(0, 140, 280)]
    assert list(byte_runs(Piece("w", "F32", (), (), ()))) == [(0, 0, 4)]


@settings(max_examples=200, deadline=None)
@given(cuts(), st.randoms(use_true_random=False))
def test_boxes_of_a_cut_tile_and_no_others_do(cut: Cut, chance: random.Random) -> None:
    chance.shuffle(cut)
    assert tile(cut)
    filled = [piece for piece in cut if piece.size]
    if filled:
        lost = chance.choice(filled)
        assert len(cut) == 1 or not tile([piece for piece in cut if piece is not lost])
        assert not tile([*cut, lost])


def test_a_cut_that_no_single_line_makes_is_a_tiling() -> None:
    """Five boxes like the blades of a pinwheel: each touches its neighbours in both directions."""
    boxes = [((0, 0), (1, 2)), ((0, 2), (2, 1)), ((2, 1), (1, 2)), ((1, 0), (2, 1)), ((1, 1), (1, 1))]
    assert tile([Piece("w", "U8", shape, (3, 3), offset) for offset, shape in boxes])


def test_an_overlap_that_makes_up_for_a_hole_is_no_tiling() -> None:
    boxes = [((0, 0), (2, 2)), ((1, 1), (2, 2)), ((0, 2), (1, 1)), ((2, 0), (1, 1))]
    pieces = [Piece("w", "U8", shape, (3, 3), offset) for offset, shape in boxes]
    assert sum(piece.size for piece in pieces) == 10
    assert not tile(pieces)
    assert not tile([Piece("w", "U8", (2,), (4,), (0,)), Piece("w", "U8", (2,), (4,), (1,))])


def save_cut(
    folder: Path,
    cut: Cut,
    owners: list[int],
    data: bytes,
    state: dict[str, int] | None = None,
    *,
    only: str = "",
) -> str:
    """A checkpoint with one tensor whose boxes are spread over the ranks; its digest."""
    backend = LocalBackend(folder)
    world_size = max(owners) + 1
    for rank in reversed(range(world_size)):
        own = Piece.whole(f"rank-{rank:05d}/rng", "U8", (3,))
        layout = plan(
            [own, *(piece for piece, owner in zip(cut, owners, strict=True) if owner == rank)],
            {f"rank-{rank:05d}": world_size} | ((state or {}) if rank == 0 else {}),
        )
        shard = bytearray(layout.header.ljust(layout.size))
        for placed in layout.placed:
            if placed.piece != own:
                for source, target, length in byte_runs(placed.piece):
                    begin = placed.start + source
                    shard[begin : begin + length] = data[target : target + length]
        outcome = persist(backend, job(attempt_id(1), rank, world_size), memoryview(shard))
        assert not outcome.failed
    return digest(backend, Catalog(backend).find().manifest, only=only)


@settings(max_examples=40, deadline=None)
@given(cuts(), st.data())
def test_the_digest_of_a_state_is_the_same_however_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: Cut, data: st.DataObject
) -> None:
    cut = list({piece.offset: piece for piece in sorted(cut, key=lambda piece: piece.size)}.values())
    whole = [Piece.whole("w", cut[0].dtype, cut[0].global_shape)]
    content = random.Random(0).randbytes(math.prod(cut[0].global_shape) * ITEM_BYTES[cut[0].dtype])
    owners = [data.draw(st.integers(0, 3)) for _ in cut]
    folder = tmp_path_factory.mktemp("cut")
    expected = save_cut(folder / "whole", whole, [0], content, {"a": 1})
    assert save_cut(folder / "cut", cut, owners, content, {"a": 1}) == expected


def test_the_digest_changes_with_anything_that_is_global(tmp_path: Path) -> None:
    content = bytes(range(24))
    variants = {
        "as it is": (Piece.whole("w", "F32", (2, 3)), content, {"a": 1}),
        "another name": (Piece.whole("v", "F32", (2, 3)), content, {"a": 1}),
        "another shape": (Piece.whole("w", "F32", (3, 2)), content, {"a": 1}),
        "another dtype": (Piece.whole("w", "I32", (2, 3)), content, {"a": 1}),
        "another byte": (Piece.whole("w", "F32", (2, 3)), content[:-1] + b"\0", {"a": 1}),
        "another state": (Piece.whole("w", "F32", (2, 3)), content, {"a": 2}),
    }
    digests = {
        name: save_cut(tmp_path / name, [piece], [0], data, state) for name, (piece, data, state) in variants.items()
    }
    assert len(set(digests.values())) == len(variants)
    assert all(len(each) == 32 for each in digests.values())


def test_a_part_of_the_state_has_a_digest_that_the_rest_does_not_change(tmp_path: Path) -> None:
    def of(folder: str, model: bytes, state: dict[str, int], only: str) -> str:
        cut = [Piece.whole("model/w", "U8", (4,)), Piece.whole("optimizer/w", "U8", (4,))]
        data = model + bytes(range(4))  # Each piece takes the first bytes: both hold the model's.
        return save_cut(tmp_path / folder, cut, [0, 0], data, state, only=only)

    first = of("first", b"abcd", {"model": 1, "optimizer": 1}, "model")
    assert of("other optimizer", b"abcd", {"model": 1, "optimizer": 2}, "model") == first
    assert of("other state", b"abcd", {"model": 2, "optimizer": 1}, "model") != first
    assert of("other weights", b"abce", {"model": 1, "optimizer": 1}, "model") != first
    assert of("all of it", b"abcd", {"model": 1, "optimizer": 1}, "") != first


def test_where_a_checkpoint_came_from_is_not_in_its_digest(tmp_path: Path) -> None:
    cut = [Piece.whole("w", "U8", (1,))]
    plain = save_cut(tmp_path / "trained", cut, [0], b"a", {"model": 1})
    assert save_cut(tmp_path / "imported", cut, [0], b"a", {"model": 1, "imported": 2}) == plain


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        (
            [Piece("w", "U8", (2,), (4,), (0,)), Piece("w", "U8", (1,), (4,), (3,))],
            "the pieces of tensor w in all shards do not make up the whole",
        ),
        (
            [Piece("w", "U8", (2,), (4,), (0,)), Piece("w", "I8", (2,), (4,), (2,))],
            "tensor w has another shape or dtype than in the other shards",
        ),
        (
            [Piece("w", "U8", (2,), (4,), (0,)), Piece("w", "U8", (2,), (5,), (2,))],
            "tensor w has another shape or dtype than in the other shards",
        ),
    ],
)
def test_pieces_that_do_not_make_up_a_whole_have_no_digest(tmp_path: Path, cut: Cut, text: str) -> None:
    with pytest.raises(Damaged) as refused:
        save_cut(tmp_path, cut, [0, 1], bytes(8))
    assert text in str(refused.value)


def test_shards_that_disagree_on_the_global_state_have_no_digest(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    for rank in (1, 0):
        persist(backend, job(attempt_id(1), rank), memoryview(plan([], {"step": rank}).header))
    with pytest.raises(Damaged) as refused:
        digest(backend, Catalog(backend).find().manifest)
    assert str(refused.value).endswith("is damaged: its 'step' differs from the one in another shard")
