"""Random augmentation and the loader: the same samples in every life of a run, and no trace in the process around."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset
from torchvision.transforms import v2

from relight.workers.errors import BadTask
from relight.workers.replay import Replayable, generators_kept, length_of, open_loader
from relight.workers.sampler import GlobalBatchSampler, SampleIndex

LENGTH = 24


class Augmented(Dataset[dict[str, Any]]):
    """A real torchvision pipeline, and what Python's and NumPy's generators gave."""

    def __init__(self) -> None:
        self.images = torch.arange(LENGTH * 3 * 8 * 8, dtype=torch.float32).reshape(LENGTH, 3, 8, 8) / 1000
        self.transform = v2.Compose(
            [
                v2.RandomAffine(30, translate=(0.2, 0.2)),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(0.3),
                v2.GaussianNoise(),
            ]
        )

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "index": int(index),
            "image": self.transform(self.images[index]),
            "python": random.random(),
            "numpy": np.random.rand(),  # noqa: NPY002 -- the global generator is the one under test
        }


class Failing(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        random.random()
        raise LookupError(index)


def epoch(number: int, *, samples: int = 0, num_workers: int = 0) -> dict[int, dict[str, Any]]:
    """What a loader opened at this position gives, by index."""
    sampler = GlobalBatchSampler(LENGTH, batch_size=4, rank=0, world_size=1, seed=5)
    sampler.set_position(number, samples)
    return unbatched(open_loader(Augmented(), sampler, num_workers=num_workers))


def unbatched(loader: Any) -> dict[int, dict[str, Any]]:
    return {
        int(index): {name: values[row] for name, values in batch.items()}
        for batch in loader
        for row, index in enumerate(batch["index"])
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)


def states() -> list[Any]:
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return [random.getstate(), str(numpy), numpy["state"]["key"].tolist(), torch.get_rng_state().tolist()]


def test_transforms_replay_with_any_number_of_loader_workers() -> None:
    alone, helped = epoch(1), epoch(1, num_workers=2)
    assert list(alone) == list(helped)
    assert len(alone) == LENGTH
    assert all(same(alone[index], helped[index]) for index in alone)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_transforms_replay_after_a_restart_in_mid_epoch(num_workers: int) -> None:
    whole = epoch(1)
    rest = epoch(1, samples=12, num_workers=num_workers)
    assert list(rest) == list(whole)[12:]
    assert all(same(whole[index], rest[index]) for index in rest)


def test_every_epoch_is_augmented_differently_also_by_workers_that_persist() -> None:
    sampler = GlobalBatchSampler(LENGTH, batch_size=4, rank=0, world_size=1, seed=5)
    loader = open_loader(Augmented(), sampler, num_workers=2)
    first = unbatched(loader)
    sampler.set_position(1, 0)
    second, alone = unbatched(loader), epoch(1)
    assert not any(same(first[index], second[index]) for index in first)
    assert all(same(second[index], alone[index]) for index in alone)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_leaves_the_training_processes_generators_alone(num_workers: int) -> None:
    np.random.randn()  # noqa: NPY002 -- leaves the second half of a pair of normals cached
    before = states()
    epoch(0, num_workers=num_workers)
    assert states() == before


def test_a_failing_sample_leaves_the_generators_alone() -> None:
    before = states()
    with pytest.raises(LookupError):
        Replayable(Failing(), seed=0)[0]
    assert states() == before


def test_neighbours_and_seeds_get_unrelated_draws() -> None:
    draws = {Replayable(Augmented(), seed)[SampleIndex(index, at)]["python"] for seed, index, at in cube()}
    assert len(draws) == 8


def cube() -> list[tuple[int, int, int]]:
    return [(seed, index, at) for seed in (0, 1) for index in (0, 1) for at in (0, 1)]


def test_a_plain_index_is_of_epoch_zero() -> None:
    data = Replayable(Augmented(), seed=5)
    assert same(data[3], data[SampleIndex(3, epoch=0)])
    assert not same(data[3], data[SampleIndex(3, epoch=1)])


def test_a_batch_is_its_samples_one_by_one() -> None:
    data = Replayable(Augmented(), seed=5)
    assert all(same(one, data[index]) for one, index in zip(data.__getitems__([4, 2]), [4, 2], strict=True))


def test_generators_are_kept_whatever_the_block_draws() -> None:
    before = states()
    with generators_kept():
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.rand(3)
    assert states() == before


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 3


class Unmeasured(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize("data", [Endless(), Unmeasured()])
def test_data_of_a_task_that_has_no_indices_or_no_length_is_refused_with_the_way_out(data: Dataset[int]) -> None:
    assert length_of(Augmented()) == LENGTH
    with pytest.raises(BadTask) as caught:
        length_of(data)
    assert str(caught.value) == (
        f"train_data() is a {type(data).__name__}, which lacks a length or indices: its position is known to its "
        "loader alone. Return a map-style dataset, or write a script that gives relight.Checkpointer a loader with "
        "state_dict() and load_state_dict() (docs/data.md)"
    )
