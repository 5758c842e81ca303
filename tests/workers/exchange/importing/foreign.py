"""Training by hand, without Relight, and the files that people write from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.whole import Whole
from relight.workers.exchange.importing.bringing_in import bring_in
from relight.workers.exchange.importing.wishes import Imported, Wishes

FEATURES: Final = 4
PER_EPOCH: Final = 4
"""Steps."""

MakeOptimizer = Callable[[nn.Module], Optimizer]

OPTIMIZERS: Final[dict[str, MakeOptimizer]] = {
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=0.05),
    "SGD with momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True),
    "groups by kind": lambda model: torch.optim.AdamW(
        [
            {"params": [it for it in model.parameters() if it.ndim > 1], "weight_decay": 0.1},
            {"params": [it for it in model.parameters() if it.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.05,
    ),
    "with names": lambda model: torch.optim.AdamW(model.named_parameters(), lr=0.05),
}


def make_model() -> nn.Module:
    """Every parameter has a shape of its own but for the first two biases and BatchNorm's."""
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3), nn.Linear(3, 1))


def batch(step: int) -> torch.Tensor:
    return torch.randn(16, FEATURES, generator=torch.Generator().manual_seed(step))


@dataclass
class ByHand:
    """A loop as tutorials have it. `losses` of every step so far."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    losses: list[float]
    step: int = 0

    @classmethod
    def begin(cls, optimizer: MakeOptimizer = OPTIMIZERS["AdamW"], seed: int = 0) -> ByHand:
        torch.manual_seed(seed)
        model = make_model()
        made = optimizer(model)
        return cls(model, made, StepLR(made, step_size=3, gamma=0.5), [])

    def train(self, steps: int) -> ByHand:
        for _ in range(steps):
            self.losses.append(float(self.one_step()))
        return self

    def one_step(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss: torch.Tensor = (self.model(batch(self.step)).square() + self.model(batch(self.step)).abs()).mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        return loss.detach()

    def general(self) -> dict[str, Any]:
        """PyTorch's tutorial's dict, and a scheduler."""
        return {
            "epoch": self.step // PER_EPOCH,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": self.scheduler.state_dict(),
            "loss": self.losses[-1],
        }


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def bring(file: Path, url: Path, **wishes: Any) -> Imported:
    return bring_in(str(file), str(url), Wishes(**wishes))


def whole(url: Path) -> Whole:
    backend = LocalBackend(url)
    return Whole(backend, Catalog(backend).find().manifest)


def tensor(url: Path, name: str) -> torch.Tensor:
    """A float32 tensor out of the newest checkpoint."""
    found = whole(url)
    piece = found.tensors[name]
    assert piece.dtype == "F32"
    return torch.frombuffer(found.read(name), dtype=torch.float32).reshape(piece.shape)
