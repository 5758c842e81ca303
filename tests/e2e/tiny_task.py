"""A small task that has everything a resume could get wrong: BatchNorm, dropout, random augmentation, a schedule.

It notes which samples each step was given, and kills its own process with SIGKILL at the steps it is told to.
"""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import Dataset

from relight.tests.waiting import wait_until
from relight.workers.task import Task

SAMPLES = 508  # With a batch of 32 the last batches of an epoch are uneven.
FEATURES = 16
CLASSES = 4


class Points(Dataset[tuple[Tensor, int, int]]):
    """`(point, label, index)`; the point is jittered by all three generators."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.points = torch.randn(SAMPLES, FEATURES, generator=generator)
        self.labels = (self.points[:, :CLASSES].argmax(dim=1)).tolist()

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        jitter = torch.randn(FEATURES) * 0.1 + random.uniform(-0.1, 0.1) + float(np.random.uniform(-0.1, 0.1))  # noqa: NPY002
        return self.points[index] + jitter, self.labels[index], int(index)


def _step_of(seal: Path) -> int:
    try:
        return int(json.loads(seal.read_bytes())["record"]["step"])
    except FileNotFoundError:  # Its arena is taken for the next copy.
        return -1


class Tiny(Task):
    def __init__(
        self,
        train: Any,
        *,
        notes: str,
        width: int = 32,
        kill: list[list[int]] | None = None,
        fail_at: int = 0,
        await_copies: bool = False,
    ) -> None:
        """`notes`: a folder. `kill`: `[rank, step]` pairs, each once. `fail_at`: a step that always raises.

        `await_copies`: a step takes as long as the copy in memory of the one before takes to be sealed.
        """
        super().__init__(train)
        self.notes = Path(notes)
        self.width = width
        self.kill = kill or []
        self.fail_at = fail_at
        self.await_copies = await_copies
        self.rank = int(os.environ.get("RANK", "0"))
        self.schedule: LRScheduler | None = None
        (self.notes / f"pid-{self.rank}").write_text(str(os.getpid()))

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(FEATURES, self.width),
            nn.BatchNorm1d(self.width),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(self.width, CLASSES),
        )

    def scheduler(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        self.schedule = LambdaLR(optimizer, lambda step: 0.99**step)
        return self.schedule

    def train_data(self) -> Dataset[Any]:
        return Points()

    def val_data(self) -> Dataset[Any]:
        return Points()

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        points, labels, indices = batch
        assert self.schedule is not None
        step = self.schedule.last_epoch + 1
        with (self.notes / f"samples-{self.rank}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "samples": indices.tolist()}) + "\n")
        if self.await_copies and step > 1:
            wait_until(lambda: self._has_copy(step - 1), what=f"a sealed copy of step {step - 1}")
        self._misbehave(step)
        return functional.cross_entropy(model(points), labels)

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        points, labels, _ = batch
        return {"accuracy": (model(points).argmax(dim=1) == labels).float()}

    def _has_copy(self, step: int) -> bool:
        folder = Path(os.environ["RELIGHT_MEMORY_DIR"])
        return any(_step_of(seal) >= step for seal in folder.glob(f"rank-{self.rank:05d}.*.seal"))

    def _misbehave(self, step: int) -> None:
        if step == self.fail_at:
            message = f"planted at step {step}"
            raise ArithmeticError(message)
        marker = self.notes / f"killed-{self.rank}-{step}"
        if [self.rank, step] in self.kill and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
