"""torchdata's StatefulDataLoader: a resume in mid-epoch goes on with the next sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader  # type: ignore[import-untyped]

from relight.tests.workers.checkpoint.streams import Numbers
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.signals import StopFlag

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

SAMPLES, BATCH, EPOCHS = 26, 4, 2


def iterable(num_workers: int) -> Any:
    return StatefulDataLoader(Numbers(SAMPLES), batch_size=BATCH, num_workers=num_workers)


def shuffled(num_workers: int) -> Any:
    return StatefulDataLoader(
        TensorDataset(torch.arange(SAMPLES)), batch_size=BATCH, shuffle=True, num_workers=num_workers
    )


def lives(url: Path, loader: Any, num_workers: int, ends: list[int]) -> dict[int, tuple[list[int], float]]:
    """Samples and a random draw by step, of a run whose lives end at these steps; the last one goes to the end."""
    done: dict[int, tuple[list[int], float]] = {}
    for end in [*ends, 10**9]:
        torch.manual_seed(4)
        checkpointer = Checkpointer(
            str(url),
            model=nn.Linear(1, 1),
            loader=(data := loader(num_workers)),
            settings=CheckpointSettings(every=1, when_busy="wait"),
            stop=StopFlag(),
        )
        progress = checkpointer.restore()
        for _ in progress.epochs(EPOCHS):
            for batch in data:
                values = batch[0] if isinstance(batch, list) else batch
                done[progress.step + 1] = values.tolist(), float(torch.rand(()))
                checkpointer.step()
                if progress.step >= end:
                    break
            if progress.step >= end:
                break
    return done


@pytest.mark.parametrize(("loader", "num_workers"), [(iterable, 0), (iterable, 2), (shuffled, 2)])
def test_a_resume_goes_on_with_the_next_sample_and_leaves_dropout_alone(
    tmp_path: Path, loader: Any, num_workers: int
) -> None:
    undisturbed = lives(tmp_path / "undisturbed", loader, num_workers, [])
    disturbed = lives(tmp_path / "disturbed", loader, num_workers, [3, 7])
    assert disturbed == undisturbed
    steps = len(undisturbed) // EPOCHS
    for epoch in range(EPOCHS):
        seen = [sample for step in range(epoch * steps, (epoch + 1) * steps) for sample in undisturbed[step + 1][0]]
        assert sorted(seen) == list(range(SAMPLES))
