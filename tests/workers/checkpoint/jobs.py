"""A small training with everything that has a state, and the checkpointer that saves it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.sampler import GlobalBatchSampler
from relight.workers.signals import StopFlag


class Job:
    """A small training with everything that has a state."""

    def __init__(self, url: Path | str, *, width: int = 8, **settings: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, milestones=[3, 5])
        data = TensorDataset(torch.randn(40, 4, generator=torch.Generator().manual_seed(1)))
        sampler = GlobalBatchSampler(len(data), batch_size=8, rank=0, world_size=1, seed=3)
        self.loader = DataLoader(data, batch_sampler=sampler)
        self.stop = StopFlag()
        self.checkpointer = Checkpointer(
            str(url),
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            loader=self.loader,
            settings=CheckpointSettings(**{"every": 4, **settings}),
            stop=self.stop,
        )
        self.losses: dict[int, float] = {}

    def train(self, epochs: int = 2, until: int = 10**9) -> Job:
        """To the end, or leave everything at step `until` as a crash would."""
        progress = self.checkpointer.restore()
        for _ in progress.epochs(epochs):
            for (points,) in self.loader:
                loss = self.step(points)
                stopped = self.checkpointer.step(loss=loss)
                self.losses[progress.step] = float(loss)
                if stopped or progress.step >= until:
                    return self
        return self

    def step(self, points: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        # Draws from all three generators, besides the dropout.
        noise = random.random() + float(np.random.random()) + torch.rand(())  # noqa: NPY002
        loss: torch.Tensor = (self.model(points) * noise).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.detach()


def manifests(url: Path) -> list[Any]:
    return [checkpoint.manifest for checkpoint in Catalog(open_backend(str(url))).committed()]


def steps_with_trouble(job: Job, count: int) -> None:
    """Steps, each of which waits for the save under way, so that every save that is due is made."""
    for _ in range(count):
        job.checkpointer.step(loss=1.0)
        job.checkpointer._session.saver.wait(10)  # type: ignore[union-attr]
