"""What `wrapping_scenes` trains: a small task for every `parallel`, and tasks that must be refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from relight.configs.schema import TrainConfig
from relight.workers.task import Task

FEATURES, WIDTH, CLASSES = 6, 10, 3  # Widths that four ranks cannot share evenly.
SAMPLES = 36


class Block(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.drop(self.down(functional.gelu(self.up(self.norm(x)))))
        return out


class Network(nn.Module):
    """With two names for one parameter, and a parameter that is not trained."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.into = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(2))
        self.mix = nn.Linear(WIDTH, WIDTH, bias=False)
        self.again = nn.Linear(WIDTH, WIDTH, bias=False)
        self.again.weight = self.mix.weight
        self.out = nn.Linear(WIDTH, CLASSES)
        self.into.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.out(self.again(self.mix(x)))
        return out


class Toy(Task):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(TrainConfig(lr=0.01))
        self.dropout = dropout

    def model(self) -> nn.Module:
        return Network(self.dropout)

    def tensor_plan(self, model: nn.Module) -> Mapping[str, ParallelStyle]:
        return {"blocks.*.up": ColwiseParallel(), "blocks.*.down": RowwiseParallel()}

    def train_data(self) -> Dataset[Any]:
        return points(SAMPLES)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        inputs, labels = batch
        return functional.cross_entropy(model(inputs), labels)

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        inputs, labels = batch
        return {"loss": functional.cross_entropy(model(inputs), labels, reduction="none")}


class Normed(Toy):
    """Its statistics are buffers, and each rank sees samples of its own."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES))


def points(count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, FEATURES, generator=generator)
    return TensorDataset(inputs, inputs[:, :CLASSES].argmax(dim=1))


# --- what is refused ---


class Parted(Toy):
    def blocks(self, model: nn.Module) -> list[nn.Module]:
        return [model.get_submodule("again")]


class CutAndParted(Toy):
    def tensor_plan(self, model: nn.Module) -> Mapping[str, ParallelStyle]:
        return {"mix": ColwiseParallel()}


class Misnamed(Toy):
    def tensor_plan(self, model: nn.Module) -> Mapping[str, ParallelStyle]:
        return {"layers.*.up": ColwiseParallel()}


class Planless(Toy):
    def tensor_plan(self, model: nn.Module) -> Mapping[str, ParallelStyle]:
        return {}


class Forgetful(Toy):
    def initialize(self, name: str, module: nn.Module) -> None:
        if not name.endswith("norm"):
            super().initialize(name, module)


class Unable(Toy):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.MultiheadAttention(WIDTH, 2))
