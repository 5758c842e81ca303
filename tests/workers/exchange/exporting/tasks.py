"""A task that makes the model it is told to, and trains it to say again what it was told."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, TensorDataset

from relight.tests.workers.exchange.exporting import modules
from relight.workers.task import Task


class Making(Task):
    def __init__(self, train: Any, *, name: str) -> None:
        super().__init__(train)
        self.name = name

    def model(self) -> nn.Module:
        made: nn.Module = getattr(modules, self.name)()
        return made

    def train_data(self) -> Dataset[Any]:
        return TensorDataset(torch.arange(16) % 7)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        (words,) = batch
        return cross_entropy(model(words), words)
