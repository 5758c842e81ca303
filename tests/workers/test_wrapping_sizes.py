"""Which ranks belong together, in worlds of all sizes."""

from __future__ import annotations

from itertools import product

import pytest

from relight.configs.parallel import ParallelConfig
from relight.workers.errors import BadWorld
from relight.workers.parallel import World
from relight.workers.wrapping.placing import place


def sizes(parallel: ParallelConfig, world_size: int, host_size: int = 1) -> tuple[int, int, int]:
    world = place(World(world_size=world_size), parallel, host_size)
    return world.replicas, world.shard, world.tensor


@pytest.mark.parametrize(
    ("parallel", "world_size", "host_size", "expected"),
    [
        (ParallelConfig(), 6, 6, (6, 1, 1)),
        (ParallelConfig(mode="fsdp"), 6, 3, (1, 6, 1)),
        (ParallelConfig(mode="hsdp", shard=2), 6, 6, (3, 2, 1)),
        (ParallelConfig(mode="hsdp"), 6, 3, (2, 3, 1)),
        (ParallelConfig(mode="hsdp"), 3, 3, (1, 3, 1)),
        (ParallelConfig(mode="tp+fsdp", tensor=2), 6, 6, (1, 3, 2)),
        (ParallelConfig(mode="tp+fsdp"), 6, 3, (1, 2, 3)),
        (ParallelConfig(mode="tp+fsdp", tensor=1), 1, 1, (1, 1, 1)),
    ],
)
def test_copies_shards_and_cuts(
    parallel: ParallelConfig, world_size: int, host_size: int, expected: tuple[int, int, int]
) -> None:
    assert sizes(parallel, world_size, host_size) == expected


def test_the_same_config_fits_worlds_of_other_sizes() -> None:
    assert [sizes(ParallelConfig(mode="hsdp", shard=2), ranks) for ranks in (8, 4, 2)] == [
        (4, 2, 1),
        (2, 2, 1),
        (1, 2, 1),
    ]


def test_neighbours_of_a_tensor_parallel_group_share_their_samples() -> None:
    tensor = ParallelConfig(mode="tp+fsdp", tensor=2)
    worlds = [place(World(rank=rank, world_size=6), tensor, 6) for rank in range(6)]
    assert [(world.data_rank, world.data_world_size) for world in worlds] == [
        (0, 3),
        (0, 3),
        (1, 3),
        (1, 3),
        (2, 3),
        (2, 3),
    ]


def test_elsewhere_every_rank_has_samples_of_its_own() -> None:
    for mode, rank in product((ParallelConfig(), ParallelConfig(mode="fsdp"), ParallelConfig(mode="hsdp")), range(4)):
        world = place(World(rank=rank, world_size=4), mode, 2)
        assert (world.data_rank, world.data_world_size) == (rank, 4)


def test_a_size_that_does_not_divide_the_world_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadWorld) as caught:
        sizes(ParallelConfig(mode="hsdp", shard=4), 6)
    assert str(caught.value) == (
        "parallel.shard=4 does not divide 6 ranks into equal groups. "
        "Start a multiple of 4 ranks, or set parallel.shard to one of 1, 2, 3, 6"
    )


def test_a_host_that_does_not_divide_the_world_is_refused_likewise() -> None:
    with pytest.raises(BadWorld) as caught:
        sizes(ParallelConfig(mode="tp+fsdp"), 7, host_size=4)
    assert str(caught.value) == (
        "parallel.tensor=null (the 4 ranks of a host) does not divide 7 ranks into equal groups. "
        "Start a multiple of 4 ranks, or set parallel.tensor to one of 1, 7"
    )
