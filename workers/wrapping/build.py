"""The model of a task, as the config wants it spread over the ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor.parallel import ParallelStyle

from ...configs.parallel import ParallelConfig
from ..errors import BadTask
from ..parallel import World, wrap
from .materializing import materialize
from .placing import place
from .precision import Precision, autocast
from .sharding import shard


class Spreadable(Protocol):
    """What a task has to say about it."""

    def model(self) -> nn.Module: ...

    def blocks(self, model: nn.Module) -> Iterable[nn.Module]: ...

    def tensor_plan(self, model: nn.Module) -> Mapping[str, ParallelStyle]: ...

    def initialize(self, name: str, module: nn.Module) -> None: ...


def settle(world: World, parallel: ParallelConfig, local_world_size: int) -> World:
    """`world`, with the sizes of its groups. A collective.

    `local_world_size`: the ranks of this host. Where hosts differ, the fewest of any host's count.

    Raises:
        BadWorld: a size does not divide the world.
    """
    fewest = torch.tensor(local_world_size)
    if world.control is not None:
        dist.all_reduce(fewest, dist.ReduceOp.MIN, group=world.control)
    return place(world, parallel, int(fewest))


def build(task: Spreadable, world: World, parallel: ParallelConfig, precision: Precision = "fp32") -> nn.Module:
    """The task's model, wrapped or sharded. A collective. Without a process group it is whole, and not wrapped.

    An optimizer is to be made afterwards, of the parameters of what this returns.

    Raises:
        BadTask: the task does not say what it has to, or it does not fit its model.
    """
    if parallel.mode == "ddp" or not dist.is_initialized():
        model = task.model()
        if precision == "bf16":
            autocast(model, world.device)
        return wrap(model, world)
    with torch.device("meta") if parallel.meta else nullcontext():
        model = task.model()
    plan = task.tensor_plan(model) if parallel.mode == "tp+fsdp" else {}
    if parallel.mode == "tp+fsdp" and not plan:
        raise BadTask(
            f"parallel: tp+fsdp needs to know how layers are cut, and {type(task).__name__} does not define "
            f"tensor_plan(). Define it, or use parallel=fsdp"
        )
    shard(model, world, blocks=task.blocks(model), plan=plan, precision=precision)
    if parallel.meta:
        materialize(model, world.device, task.initialize)
    return model
