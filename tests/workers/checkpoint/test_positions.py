"""A plain DataLoader goes on in the middle of an epoch with exactly what is left of it, whatever drew its order."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, Sampler, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

from relight.tests.workers.checkpoint.plain_loaders import SAMPLES, Noisy, Plain, life
from relight.workers.checkpoint.reading_on import batches_read

Make = Callable[[], "DataLoader[Tensor]"]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(9)


def dealt(**options: Any) -> DistributedSampler[Tensor]:
    return DistributedSampler(Noisy(), num_replicas=2, rank=1, seed=3, **options)


class EvenFirst(Sampler[list[int]]):
    """A batch sampler of somebody's own, which draws while it goes."""

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(0, SAMPLES, 6):
            order = torch.randperm(6).tolist()
            yield [first + number for number in order]

    def __len__(self) -> int:
        return SAMPLES // 6


LOADERS: dict[str, Make] = {
    "in order": lambda: DataLoader(Noisy(), batch_size=6),
    "shuffled": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True),
    "shuffled by a generator": lambda: DataLoader(Noisy(), batch_size=5, shuffle=True, generator=generator()),
    "a sampler with a generator": lambda: DataLoader(
        Noisy(), batch_size=8, sampler=RandomSampler(Noisy(), replacement=True, num_samples=70, generator=generator())
    ),
    "weighted": lambda: DataLoader(Noisy(), batch_size=6, sampler=WeightedRandomSampler(range(1, 43), 42)),
    "one by one": lambda: DataLoader(Noisy(), batch_size=None, shuffle=True),
    "batches of one's own": lambda: DataLoader(Noisy(), batch_sampler=EvenFirst()),
    "dealt": lambda: DataLoader(Noisy(), batch_size=4, sampler=dealt()),
}


@pytest.fixture
def url() -> str:
    """In this process's memory, which outlives the lives here."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize("kind", LOADERS)
def test_stopped_anywhere_it_is_what_a_script_without_relight_would_have_been(kind: str, url: str) -> None:
    make, options = LOADERS[kind], {"set_epoch": kind == "dealt"}
    wanted = life(None, make, **options)
    per_epoch = len(wanted) // 3
    # In the middle of an epoch, at its very end, behind its first step, and where two lives end in one epoch.
    told = []
    for steps in (per_epoch // 2, per_epoch - per_epoch // 2, 1, 2, 0):
        told += life(url, make, stop_after=steps, **options)
    assert told == wanted


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_make_the_same_random_batches_whichever_of_them_does(persistent: bool, url: str) -> None:  # noqa: FBT001
    def make() -> DataLoader[Tensor]:
        return DataLoader(Noisy(), batch_size=6, shuffle=True, num_workers=2, persistent_workers=persistent)

    wanted = life(f"{url}/whole", make)
    told = [line for steps in (3, 8, 0) for line in life(f"{url}/stopped", make, stop_after=steps)]
    assert told == wanted
    noise = [batch[1] for _, batch, _ in wanted]
    assert len(set(noise)) == len(noise)


def test_with_workers_and_without_noise_it_is_what_a_script_without_relight_would_have_been(url: str) -> None:
    def make() -> DataLoader[Tensor]:
        return DataLoader(Plain(), batch_size=6, shuffle=True, num_workers=2)

    assert life(url, make, epochs=2) == life(None, make, epochs=2)


def test_several_batches_a_step_need_not_be_told(url: str) -> None:
    def make() -> DataLoader[Tensor]:
        return DataLoader(Noisy(), batch_size=4, shuffle=True)

    wanted = life(None, make, batches_per_step=3)
    told = [line for steps in (2, 3, 0) for line in life(url, make, stop_after=steps, batches_per_step=3)]
    assert told == wanted


def facts(**changes: Any) -> dict[str, Any]:
    return {"samples": 100, "batches": 25, "batch_size": 2, "sampler": "DistributedSampler", "dealt": True, **changes}


def states(*finished: int, **changes: Any) -> list[dict[str, Any]]:
    return [{"facts": facts(**changes), "finished": each} for each in finished]


@pytest.mark.parametrize(
    ("saved", "here", "world_size", "answer"),
    [
        (states(6, 6), facts(), 2, 6),
        (states(6, 6), facts(batches=50), 1, 12),
        (states(6, 6), facts(batches=13), 4, 3),
        (states(25, 25), facts(batches=13), 4, 13),
        (states(6, 6), facts(batches=17), 3, 4),
        (
            states(7, 7),
            facts(batches=17),
            3,
            "7 batches of each rank were saved by 2 ranks, here are 3, which does not",
        ),
        (states(6, 6), facts(batch_size=4), 2, "batch_size is 2 in the checkpoint, 4 here"),
        (states(6, 6), facts(samples=99), 1, "samples is 100 in the checkpoint, 99 here"),
        (states(6, 6, dealt=False), facts(dealt=False), 1, "without DistributedSampler was saved by 2 ranks"),
    ],
)
def test_a_position_in_another_world_is_said_or_refused(
    saved: list[dict[str, Any]], here: dict[str, Any], world_size: int, answer: int | str
) -> None:
    finished, problems = batches_read(saved, here, world_size)
    if isinstance(answer, int):
        assert (finished, problems) == (answer, [])
    else:
        assert answer in problems[0]
