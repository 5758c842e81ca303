"""A step made of several micro-batches has the gradient of the whole global batch, and costs one sum over the ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from relight.tests.workers.accumulating import COUNTS, LENGTH
from relight.tests.workers.ranks import play
from relight.workers.accumulation import steps
from relight.workers.checkpoint.progress import Progress
from relight.workers.sampler import GlobalBatchSampler, sampler_of

WORLD = 4
SHARES = {None: [3, 3, 3], 2: [2, 1, 2, 1, 2, 1], 1: [1] * 9}
"""Rank 0's micro-batches in three steps."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return play("relight.tests.workers.accumulating:accumulating", WORLD, tmp_path_factory.mktemp("accumulating"))


@pytest.mark.parametrize("largest", SHARES)
@pytest.mark.parametrize("wrapped", ["by_ddp", "by_compiled_ddp", "by_fsdp", "by_hsdp"])
def test_uneven_micro_batches_on_uneven_ranks_add_up_to_the_mean_over_the_global_batch(
    played: list[dict[str, Any]], wrapped: str, largest: int | None
) -> None:
    answers = [answer[f"{wrapped} {largest}"] for answer in played]
    assert max(answer["off"] for answer in answers) < 1e-6
    assert max(answer["losses off"] for answer in answers) < 1e-6
    assert [answer["samples"] for answer in answers] == [LENGTH] * WORLD
    assert answers[0]["sizes"] == SHARES[largest]
    assert len({len(answer["sizes"]) for answer in answers}) == 1, "ranks took different numbers of micro-batches"


@pytest.mark.skipif(not COUNTS, reason="torch 2.10 cannot count them")
@pytest.mark.parametrize(
    ("wrapped", "once_a_step", "for_each"),
    [
        ("by_ddp", {"allreduce_": 1}, {}),
        ("by_compiled_ddp", {"allreduce_": 1}, {}),
        ("by_fsdp", {}, {"_allgather_base_": 4, "_reduce_scatter_base_": 2}),
        ("by_hsdp", {"allreduce_": 1}, {"_allgather_base_": 1, "_reduce_scatter_base_": 1}),
    ],
)
def test_replicas_meet_once_a_step_and_shards_with_every_micro_batch(
    played: list[dict[str, Any]], wrapped: str, once_a_step: dict[str, int], for_each: dict[str, int]
) -> None:
    for largest, in_a_step in ((None, 1), (2, 2), (1, 3)):
        expected = once_a_step | {op: count * in_a_step for op, count in for_each.items()}
        sent = played[0][f"{wrapped} {largest}"]["sent"]
        assert sent[1:] == [expected] * 2  # DDP rebuilds its buckets in the first.


# --- in a script ---


def loader(num_workers: int = 0, **changes: Any) -> DataLoader[Any]:
    place = {"batch_size": 8, "rank": 0, "world_size": 1, "seed": 0, "max_per_rank": 3}
    sampler = GlobalBatchSampler(20, **{**place, **changes})
    return DataLoader(TensorDataset(torch.arange(20.0)), batch_sampler=sampler, num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_step_gives_the_micro_batches_of_one_global_batch(num_workers: int) -> None:
    sizes = [[len(values) for (values,) in step] for step in steps(loader(num_workers))]
    assert sizes == [[3, 3, 2], [3, 3, 2], [2, 2]]


def test_steps_go_on_from_the_position() -> None:
    data = loader()
    data.batch_sampler.set_position(0, 8)  # type: ignore[union-attr]
    assert [step.samples for step in steps(data)] == [8, 4]


def test_what_is_left_over_of_a_step_does_not_leak_into_the_next() -> None:
    firsts = []
    for step in steps(loader()):
        for (values,) in step:
            firsts.append(values.tolist())
            break
    order = GlobalBatchSampler(20, batch_size=8, rank=0, world_size=1, seed=0).order.indices(20, 0, 0)
    assert firsts == [order[start : start + size].tolist() for start, size in ((0, 3), (8, 3), (16, 2))]


def test_the_loss_of_a_step_is_the_mean_over_its_samples() -> None:
    for step in steps(loader()):
        values = []
        for (part,) in step:
            step.weighted(part.square().mean())
            values += part.tolist()
        assert float(step.loss) == pytest.approx(sum(value**2 for value in values) / len(values))


def test_micro_batches_that_are_not_needed_change_no_bit_of_the_loss() -> None:
    step = next(steps(loader(max_per_rank=None)))
    (values,) = next(iter(step))
    loss = values.square().mean()
    assert torch.equal(step.weighted(loss), loss)


def test_a_step_whose_loss_was_not_weighted_says_what_is_missing() -> None:
    step = next(steps(loader()))
    with pytest.raises(RuntimeError) as caught:
        _ = step.loss
    assert str(caught.value) == (
        "no loss of this step is known: call step.weighted(loss).backward() for each of its micro-batches"
    )


def test_micro_batches_that_are_taken_for_steps_are_noticed() -> None:
    """Each would move the position on by a whole global batch, and most samples would never be seen."""
    data = loader()
    progress = Progress(sampler=sampler_of(data))
    next(iter(data))
    with pytest.raises(RuntimeError) as caught:
        progress.advance(1)
    assert str(caught.value) == (
        "a sampler with max_per_rank gives several batches a step: loop over relight.steps(loader, model)"
    )
    next(steps(data))
    progress.advance(1)
    assert (progress.step, progress.samples) == (1, 8)


def test_a_loader_without_a_global_batch_sampler_has_no_steps() -> None:
    with pytest.raises(TypeError) as caught:
        steps(DataLoader(TensorDataset(torch.zeros(3))))
    assert str(caught.value) == (
        "a DataLoader has no relight.GlobalBatchSampler as batch_sampler: steps cannot be told"
    )
