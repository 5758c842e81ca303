"""What test_positions.py trains: a loop as people write it, that draws in every way, stopped and gone on with."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from relight import Checkpointer, CheckpointSettings

SAMPLES = 42


class Noisy(Dataset[Tensor]):
    """Augmented by all three generators."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index), random.random(), float(np.random.random()), torch.rand(()).item()])  # noqa: NPY002


class Plain(Dataset[Tensor]):
    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index), 0.0, 0.0, 0.0])


Trace = list[tuple[int, list[float], float]]
"""The epoch, the batch, and a draw of the loop's own, for each batch."""


def life(  # noqa: C901 -- as one reads in scripts
    url: str | None,
    make: Callable[[], DataLoader[Tensor]],
    *,
    epochs: int = 3,
    stop_after: int = 0,
    batches_per_step: int = 1,
    set_epoch: bool = False,
) -> Trace:
    """One life, until `stop_after` steps (0: to the end); without a URL, one that knows nothing of Relight."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    loader = make()
    checkpoint = None
    numbers: Any = range(epochs)
    if url is not None:
        settings = CheckpointSettings(every=1000)  # The end of a life is saved.
        checkpoint = Checkpointer(url, model=model, optimizer=optimizer, loader=loader, settings=settings)
        numbers = checkpoint.restore().epochs(epochs)
    trace: Trace = []
    steps = 0
    for epoch in numbers:
        if set_epoch:
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for index, batch in enumerate(loader):
            trace.append((epoch, batch.flatten().tolist(), torch.rand(()).item()))
            model(batch).mean().backward()
            if (index + 1) % batches_per_step and index + 1 < len(loader):
                continue
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
            if checkpoint is not None and checkpoint.step():
                raise AssertionError("nobody has asked for it")
            if steps == stop_after and checkpoint is not None:
                checkpoint.finish()
                return trace
    return trace
