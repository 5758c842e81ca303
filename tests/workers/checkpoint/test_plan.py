"""Which rank writes which bytes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models import resnet18

from relight.storage.boxes import Box
from relight.storage.shards import Piece
from relight.workers.checkpoint.plan import SMALLEST_CUT_BYTES, Held, TensorSpec, share
from relight.workers.checkpoint.state import spec_of

SHAPES = st.lists(st.integers(0, 40), max_size=3).map(tuple)
SPECS = st.lists(st.tuples(SHAPES, st.sampled_from(["F32", "U8", "BF16"]), st.booleans()), max_size=12).map(
    lambda rows: [TensorSpec(f"t{index}", dtype, shape, first) for index, (shape, dtype, first) in enumerate(rows)]
)


def rows_covered(pieces: list[Piece]) -> list[int]:
    """The rows of dimension 0 that the pieces of one tensor hold, with repetitions."""
    return sorted(row for piece in pieces for row in range(piece.offset[0], piece.offset[0] + piece.shape[0]))


@given(specs=SPECS, world_size=st.integers(1, 9))
def test_over_all_ranks_every_tensor_is_written_exactly_once(specs: list[TensorSpec], world_size: int) -> None:
    shares = [share(specs, rank, world_size) for rank in range(world_size)]
    for spec in specs:
        pieces = [piece for pieces in shares for piece in pieces if piece.name == spec.name]
        assert all(piece.global_shape == spec.shape for piece in pieces)
        if spec.shape:
            assert rows_covered(pieces) == list(range(spec.shape[0]))
        if not spec.size:
            assert len(pieces) == 1
        assert sum(math.prod(piece.shape) for piece in pieces) == math.prod(spec.shape)


@given(specs=SPECS, world_size=st.integers(2, 5))
def test_what_only_rank_0_has_right_is_written_by_rank_0(specs: list[TensorSpec], world_size: int) -> None:
    elsewhere = {piece.name for rank in range(1, world_size) for piece in share(specs, rank, world_size)}
    assert not elsewhere & {spec.name for spec in specs if spec.rank_zero}


@given(
    rows=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    shards=st.integers(1, 4),
    replicas=st.integers(1, 3),
    wide=st.booleans(),
)
def test_replicas_of_a_shard_share_it_and_all_shards_make_up_the_tensor(
    rows: list[int], shards: int, replicas: int, *, wide: bool
) -> None:
    """Rank r holds shard r modulo `shards`, as torch cuts dimension 0; some ranks may hold nothing."""
    columns = SMALLEST_CUT_BYTES // 4 if wide else 1
    written: dict[str, list[Piece]] = {f"t{number}": [] for number in range(len(rows))}
    for rank in range(shards * replicas):
        by = tuple(range(rank % shards, shards * replicas, shards))
        specs = [
            TensorSpec(
                f"t{number}", "F32", (count, columns), held=Held(chunk(count, columns, rank % shards, shards), by)
            )
            for number, count in enumerate(rows)
        ]
        for piece in share(specs, rank, shards * replicas):
            written[piece.name].append(piece)
    for number, count in enumerate(rows):
        assert rows_covered(written[f"t{number}"]) == list(range(count))


def chunk(rows: int, columns: int, shard: int, shards: int) -> Box:
    length = -(-rows // shards)
    start = min(shard * length, rows)
    return Box((start, 0), (min(length, rows - start), columns))


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_every_rank_s_bytes_are_within_10_percent_of_the_mean(world_size: int) -> None:
    specs = [spec_of(name, tensor) for name, tensor in resnet18().state_dict().items()]
    shares = [sum(piece.size for piece in share(specs, rank, world_size)) for rank in range(world_size)]
    least, most = (share_bytes * world_size / sum(shares) for share_bytes in (min(shares), max(shares)))
    print(f"resnet18 over {world_size} ranks: shares of {least:.4f} to {most:.4f} of the mean")
    assert 0.9 < least <= most < 1.1


def test_small_tensors_are_not_cut() -> None:
    rows = SMALLEST_CUT_BYTES // 4 - 1
    specs = [TensorSpec("small", "F32", (rows,)), TensorSpec("other", "F32", (rows,))]
    assert all(piece.is_whole for rank in range(3) for piece in share(specs, rank, 3))


def test_the_order_in_which_tensors_are_given_does_not_matter() -> None:
    specs = [spec_of(name, tensor) for name, tensor in resnet18().state_dict().items()]
    assert share(specs, 1, 3) == share(list(reversed(specs)), 1, 3)


def test_a_tensor_that_safetensors_cannot_spell_is_refused_by_name() -> None:
    sparse = torch.eye(3).to_sparse()
    with pytest.raises(Exception) as caught:
        spec_of("model/embedding", sparse)
    assert (
        str(caught.value)
        == "model/embedding is a torch.sparse_coo tensor of torch.float32 on cpu, which cannot be saved"
    )
