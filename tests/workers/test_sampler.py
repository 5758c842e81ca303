"""The order of samples, and that no restart at any world size repeats or skips one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relight.workers.cutting import cut, micro_batches, pieces, share, smallest_batch
from relight.workers.errors import BadBatchSize
from relight.workers.order import epoch_order
from relight.workers.sampler import GlobalBatchSampler, SampleIndex

# In which world each life of the run lives, and how many steps it gets before it is killed.
Lives = list[tuple[int, int]]


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, int, Lives]:
    """(length, batch size, lives): worlds of up to a quarter of the batch size, which is always enough."""
    batch_size = draw(st.integers(4, 64))
    worlds = st.integers(1, batch_size // 4)
    lives = draw(st.lists(st.tuples(worlds, st.integers(0, 6)), min_size=1, max_size=6))
    length = draw(st.integers(2 * max(world for world, _ in lives), 400))
    return length, batch_size, lives


def all_ranks(length: int, batch_size: int, world: int, **options: Any) -> list[GlobalBatchSampler]:
    return [
        GlobalBatchSampler(length, batch_size=batch_size, rank=rank, world_size=world, seed=3, **options)
        for rank in range(world)
    ]


def live(samplers: list[GlobalBatchSampler], epoch: int, samples: int, steps: int) -> tuple[list[int], int]:
    """Up to `steps` steps of all ranks together: what they saw, and the position after them."""
    for sampler in samplers:
        sampler.set_position(epoch, samples)
    seen: list[int] = []
    for _, shares in zip(range(steps), zip(*samplers, strict=True), strict=False):
        assert all(len(mine) >= 2 for mine in shares)
        batch = [index for mine in shares for index in mine]
        assert len(batch) == samplers[0].span(samples)
        seen += batch
        samples += len(batch)
    return seen, samples


@given(runs(), st.integers(0, 5))
@settings(deadline=None)
def test_an_epoch_is_every_sample_once_in_one_order_whatever_is_killed_and_resharded(
    run: tuple[int, int, Lives], epoch: int
) -> None:
    length, batch_size, lives = run
    seen: list[int] = []
    samples = 0
    for world, steps in lives:
        more, samples = live(all_ranks(length, batch_size, world), epoch, samples, steps)
        seen += more
    rest, samples = live(all_ranks(length, batch_size, lives[0][0]), epoch, samples, length)
    assert seen + rest == epoch_order(length, 3, epoch).tolist()
    assert sorted(seen + rest) == list(range(length))
    assert samples == length


@given(runs())
@settings(deadline=None)
def test_an_epoch_takes_the_same_steps_at_every_world_size(run: tuple[int, int, Lives]) -> None:
    length, batch_size, lives = run
    for world, _ in lives:
        sampler = all_ranks(length, batch_size, world)[0]
        assert len(list(sampler)) == len(sampler) == -(-length // batch_size)


@given(st.integers(1, 500), st.integers(1, 64), st.booleans())
def test_no_batch_is_above_the_batch_size_or_below_half_of_it(length: int, batch_size: int, drop_last: bool) -> None:  # noqa: FBT001
    sizes, left = [], length
    while size := cut(left, batch_size, drop_last=drop_last):
        sizes.append(size)
        left -= size
    assert left == (length % batch_size if drop_last else 0)
    assert all(size <= batch_size for size in sizes)
    assert all(2 * size >= min(batch_size, length) for size in sizes)
    if sizes:
        assert min(sizes) == smallest_batch(length, batch_size, drop_last=drop_last)


@given(st.integers(1, 200), st.integers(1, 32), st.integers(1, 12), st.booleans())
@settings(deadline=None)
def test_a_sampler_is_refused_at_once_or_feeds_every_rank_in_every_step(
    length: int,
    batch_size: int,
    world: int,
    drop_last: bool,  # noqa: FBT001
) -> None:
    try:
        samplers = all_ranks(length, batch_size, world, drop_last=drop_last)
    except BadBatchSize:
        assume(False)
    at_least = min(2, batch_size // world)
    steps = list(zip(*samplers, strict=True))
    assert steps
    assert all(len(mine) >= at_least for shares in steps for mine in shares)


@given(st.integers(0, 300), st.integers(1, 16))
def test_shares_are_contiguous_and_differ_by_at_most_one(size: int, world: int) -> None:
    parts = [range(size)[share(size, rank, world)] for rank in range(world)]
    assert [index for part in parts for index in part] == list(range(size))
    lengths = [len(part) for part in parts]
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) - min(lengths) <= 1


def test_iterating_does_not_move_the_position() -> None:
    sampler = all_ranks(20, 4, 1)[0]
    sampler.set_position(0, 8)
    first = list(sampler)
    assert sampler.samples == 8
    assert list(sampler) == first


def test_batches_begin_at_the_position_of_the_call_though_the_first_is_asked_for_later() -> None:
    sampler = all_ranks(20, 4, 1)[0]
    sampler.set_position(0, 8)
    expected = next(iter(sampler))
    batches = iter(sampler)
    sampler.set_position(1, 0)
    assert next(batches) == expected


def test_after_the_last_sample_nothing_is_left() -> None:
    sampler = all_ranks(20, 8, 2)[0]
    sampler.set_position(0, 20)
    assert (list(sampler), len(sampler), sampler.span(20)) == ([], 0, 0)


def test_the_weights_of_all_ranks_count_every_sample_alike() -> None:
    samplers = all_ranks(19, 10, 2)
    assert [sampler.weights(0) for sampler in samplers] == [[1.0], [1.0]]
    assert [sampler.weights(10) for sampler in samplers] == [[10 / 9], [8 / 9]]


def test_an_index_remembers_its_epoch_on_its_way_to_a_loader_worker() -> None:
    index = SampleIndex(7, epoch=3)
    copied = copy.copy(index)
    assert ["zero", "one"][SampleIndex(1, epoch=9)] == "one"
    assert (copied, copied.epoch, type(copied)) == (7, 3, SampleIndex)


def error_of(length: int, batch_size: int, world: int, *, drop_last: bool = False) -> str:
    with pytest.raises(BadBatchSize) as caught:
        all_ranks(length, batch_size, world, drop_last=drop_last)
    return str(caught.value)


def test_a_batch_smaller_than_the_world_is_refused() -> None:
    assert error_of(100, 3, 4) == (
        "train.batch_size=3 (samples per step of all ranks together) on 4 ranks leaves ranks without a sample. "
        "Set it to at least 8, or use fewer ranks"
    )


def test_a_last_batch_that_would_starve_a_rank_is_refused_with_the_way_out() -> None:
    assert error_of(21, 8, 4) == (
        "train.batch_size=8 (samples per step of all ranks together) on 4 ranks cuts 21 samples into batches "
        "down to 5, too few for every rank. "
        "Set data.drop_last=true, or train.batch_size to at least 16, or use fewer ranks"
    )
    assert all_ranks(21, 8, 4, drop_last=True)
    assert all_ranks(21, 16, 4)


def test_dropping_the_only_batch_is_refused() -> None:
    assert error_of(7, 8, 1, drop_last=True) == (
        "train.batch_size=8 (samples per step of all ranks together) on 1 ranks gives no batch: "
        "an epoch has 7 samples and data.drop_last=True"
    )


def test_a_batch_size_changed_in_mid_epoch_is_refused_only_if_a_rank_would_starve() -> None:
    sampler = all_ranks(30, 16, 4)[0]
    sampler.set_position(2, 20)
    with pytest.raises(BadBatchSize) as caught:
        sampler.set_position(2, 28)
    assert str(caught.value) == (
        "2 samples are left in epoch 2, and cut by the new train.batch_size=16 they give a batch of 2 for 4 ranks. "
        "Finish the epoch with the old train.batch_size, or with at most 2 ranks"
    )


def test_a_position_beyond_the_data_is_refused() -> None:
    with pytest.raises(BadBatchSize) as caught:
        all_ranks(30, 16, 4)[0].set_position(0, 31)
    assert str(caught.value) == "position 31 is outside an epoch of 30 samples: was the data changed?"


# --- micro-batches ---


@given(st.integers(1, 300), st.integers(1, 16), st.integers(1, 40))
def test_micro_batches_are_as_many_on_all_ranks_none_too_large_and_together_the_batch(
    size: int, world: int, largest: int
) -> None:
    assume(size >= world)
    parts = [pieces(size, rank, world, largest) for rank in range(world)]
    assert {len(mine) for mine in parts} == {micro_batches(size, world, largest)}
    lengths = [part.stop - part.start for mine in parts for part in mine]
    assert max(lengths) <= largest
    assert [index for mine in parts for part in mine for index in range(size)[part]] == list(range(size))
    assert largest == 1 or min(lengths) >= 1
    assert (micro_batches(size, world, largest) - 1) * largest < -(-size // world), "fewer would do"


@given(runs(), st.integers(1, 9))
@settings(deadline=None)
def test_what_a_rank_can_take_at_once_changes_neither_steps_nor_samples_nor_their_weight(
    run: tuple[int, int, Lives], largest: int
) -> None:
    length, batch_size, lives = run
    world = lives[0][0]
    whole = all_ranks(length, batch_size, world)
    cut_up = all_ranks(length, batch_size, world, max_per_rank=largest)
    assert [sampler.steps_left for sampler in cut_up] == [whole[0].steps_left] * world
    for one, other in zip(whole, cut_up, strict=True):
        batches = list(other)
        assert len(batches) == len(other)
        assert max(len(batch) for batch in batches) <= largest
        seen, samples = iter(batches), 0
        for mine in one:
            weights = other.weights(samples)
            assert [index for weight in weights for index in next(seen) if weight] == mine
            assert sum(weights) == pytest.approx(one.weights(samples)[0])
            samples += one.span(samples)


def test_a_rank_with_a_sample_less_takes_its_last_one_again_at_no_weight() -> None:
    """So that it does as many backward passes as the others, which wait for it under FSDP."""
    first, second = all_ranks(7, 7, 2, max_per_rank=1)
    assert (first.weights(0), second.weights(0)) == ([2 / 7] * 4, [2 / 7] * 3 + [0.0])
    assert list(second)[-1] == list(second)[-2]


def test_single_samples_at_the_end_are_no_accident_for_who_takes_them_one_by_one() -> None:
    assert error_of(37, 10, 4)
    assert all_ranks(37, 10, 4, max_per_rank=1)
