"""A task that fails on one rank, at a place of choice."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from relight.workers.task import Task

AT_STEP = 3


class Numbers(Dataset[Tensor]):
    def __init__(self, *, fails: bool) -> None:
        self._fails = fails

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Tensor:
        if self._fails:
            message = f"sample {index} is damaged"
            raise ValueError(message)
        return torch.ones(4)


class Failing(Task):
    def __init__(self, train: Any, *, at: str, rank: int) -> None:
        super().__init__(train)
        self._at = at if int(os.environ["RANK"]) == rank else ""
        self._step = 0

    def model(self) -> nn.Module:
        return nn.Linear(4, 1)

    def train_data(self) -> Dataset[Any]:
        return Numbers(fails=self._at == "data")

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        self._step += 1
        if self._step == AT_STEP:
            self._fail()
        loss: Tensor = model(batch).mean()
        return loss

    def _fail(self) -> None:
        if self._at == "loss":
            raise ArithmeticError("planted")
        if self._at == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self._at == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
