"""A model sharded by FSDP2, over all ranks or groups of them, and cut within its layers where that is asked for."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor.parallel import ParallelStyle, parallelize_module
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import BadTask
from ..parallel import World, sync_buffers
from .blocks import innermost_first
from .precision import Precision, policy

_DATA: Final = ("replicate", "shard")


def shard(
    model: nn.Module,
    world: World,
    *,
    blocks: Iterable[nn.Module],
    plan: Mapping[str, ParallelStyle],
    precision: Precision = "fp32",
) -> None:
    """Make the model's parameters DTensors on the world's device. A collective.

    All ranks start with rank 0's weights and buffers, unless the model is on the meta device. `plan` says how layers
    are cut over `world.tensor` ranks, each block and what is left of the model are then sharded over the others.
    A block that is not part of the model is passed over.

    Raises:
        BadTask: the plan names nothing, or a parameter with two names would become two.
    """
    _check_plan(model, plan)
    ties = _ties(model)
    # BatchNorm's statistics are float32, and its weights have to be as its statistics are.
    apart = [] if precision == "fp32" else [part for part in model.modules() if isinstance(part, _BatchNorm)]
    wanted = innermost_first(model, [*blocks, *apart])
    _spread_from_rank_zero(model)
    mesh = open_mesh(world)
    if world.tensor > 1:
        parallelize_module(model, mesh["tensor"], dict(plan))
    data = mesh[_DATA] if world.replicas > 1 else mesh["shard"]
    for module in [*wanted, model]:
        own = "fp32" if isinstance(module, _BatchNorm) else precision
        fully_shard(module, mesh=data, mp_policy=policy(own, outermost=module is model))
    _check_ties(ties, _ties(model))
    model.register_forward_pre_hook(_sync_while_training)


def open_mesh(world: World) -> DeviceMesh:
    """The ranks by what they do, neighbours in the same tensor-parallel group. A collective."""
    sizes = {"replicate": world.replicas, "shard": world.shard, "tensor": world.tensor}
    names = tuple(name for name, size in sizes.items() if size > 1 or name == "shard")
    return init_device_mesh(world.device.type, tuple(sizes[name] for name in names), mesh_dim_names=names)


def reshard(model: nn.Module) -> None:
    """Give back the whole parameters that a forward without a backward leaves behind: those of the outermost module."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _sync_while_training(model: nn.Module, _: Any) -> None:
    """As DDP does it: what one rank's samples did to its buffers is not lost or kept by chance, rank 0's count."""
    if model.training and torch.is_grad_enabled():
        sync_buffers(model)


@torch.no_grad()
def _spread_from_rank_zero(model: nn.Module) -> None:
    for tensor in [*model.parameters(), *model.buffers()]:
        if not tensor.is_meta:
            dist.broadcast(tensor, src=0)


def _check_plan(model: nn.Module, plan: Mapping[str, ParallelStyle]) -> None:
    names = [name.split(".") for name, _ in model.named_modules()]
    for path in plan:
        if not any(_matches(name, path.split(".")) for name in names):
            raise BadTask(
                f"tensor_plan() names {path!r}, and the model has no such module; its parts are called "
                f"{', '.join(name for name, _ in model.named_children())}"
            )


def _matches(name: list[str], pattern: list[str]) -> bool:
    return len(name) == len(pattern) and all(map(fnmatch.fnmatchcase, name, pattern))


def _ties(model: nn.Module) -> list[list[str]]:
    """The names of each parameter that has several."""
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter].append(name)
    return [several for several in names.values() if len(several) > 1]


def _check_ties(before: list[list[str]], after: list[list[str]]) -> None:
    parted = [names for names in before if names not in after]
    if parted:
        raise BadTask(
            f"{' and '.join(parted[0])} are one tensor and would become two: give all of its modules to the same one "
            f"of blocks(), or to none, and leave them out of tensor_plan()"
        )
