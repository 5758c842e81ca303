"""What ranks do in test_gpt.py: the same small GPT, whole on each rank, sharded, and cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from relight.configs.parallel import ParallelConfig
from relight.configs.schema import TrainConfig
from relight.workers.checkpoint.geometry import held
from relight.workers.evaluate import conclude
from relight.workers.parallel import World, unwrap
from relight.workers.tasks.gpt import GPT
from relight.workers.tasks.transformer import Transformer
from relight.workers.wrapping.build import build, settle

MODES = {
    "whole": ParallelConfig(mode="ddp"),
    "fsdp": ParallelConfig(mode="fsdp"),
    "fsdp on meta": ParallelConfig(mode="fsdp", meta=True),
    "tp+fsdp": ParallelConfig(mode="tp+fsdp", tensor=2),
}


def spread(world: World) -> dict[str, Any]:
    task = GPT(TrainConfig(seed=3), context=16, layers=2, heads=2, width=32, sample_bytes=20)
    batch = torch.randint(256, (4, 17), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return {name: _told(task, build(task, settle(world, mode, 2), mode), batch) for name, mode in MODES.items()}


def _told(task: GPT, model: nn.Module, batch: torch.Tensor) -> dict[str, Any]:
    """All ranks are given the same samples and weights, so that no mode is told from another."""
    module = unwrap(model)
    assert isinstance(module, Transformer)
    _set_weights(module)
    loss = task.loss(model, batch)
    loss.backward()
    gradients = [_whole(parameter.grad).norm() for parameter in module.parameters() if parameter.grad is not None]
    return {
        "loss": loss.item(),
        "gradient": [float(norm) for norm in gradients],
        "tied": module.head.weight is module.embedding.weight,
        "text": conclude(task, model),
    }


@torch.no_grad()
def _set_weights(module: nn.Module) -> None:
    for number, parameter in enumerate(module.parameters()):
        values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.1
        if isinstance(parameter, DTensor):
            parameter.to_local().copy_(values[held(parameter, "").box.slices])
        else:
            parameter.copy_(values)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
