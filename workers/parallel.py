"""One rank among many: process groups, the device, data-parallel wrapping, and what makes a step repeat bit for bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from .errors import BadWorld

_NEEDED: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class World:
    """Where this process stands. The defaults are a single process that was started without a launcher."""

    rank: int = 0
    local_rank: int = 0
    """Rank within the host."""
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    control: dist.ProcessGroup | None = field(default=None, compare=False, repr=False)
    """A gloo group for votes alone: CPU tensors of a few bytes that never queue behind gradients."""
    shard: int = 1
    """Ranks over which FSDP shards one copy of the model."""
    tensor: int = 1
    """Ranks that compute each layer together: neighbours, a tensor-parallel group."""

    @property
    def data_rank(self) -> int:
        """Which share of the samples is this rank's, and which random numbers: alike in a tensor-parallel group."""
        return self.rank // self.tensor

    @property
    def data_world_size(self) -> int:
        """Into how many shares the samples are divided."""
        return self.world_size // self.tensor

    @property
    def replicas(self) -> int:
        """Copies of the model."""
        return self.world_size // (self.shard * self.tensor)


def join(environ: Mapping[str, str] = os.environ, *, timeout_s: float = 1800, control_timeout_s: float = 600) -> World:
    """Meet the other ranks that torchrun, or a launcher like it, started; alone when `RANK` is not set.

    `timeout_s` bounds a collective of the training, `control_timeout_s` one of the control group.
    Raises BadWorld when the environment is incomplete, or names a GPU that this host lacks.
    """
    if "RANK" not in environ:
        return World(device=choose_device(0, torch.cuda.device_count()))
    missing = [name for name in _NEEDED if not environ.get(name)]
    if missing:
        raise BadWorld(
            f"RANK is set but {', '.join(missing)} is not: start with relight run or torchrun, or unset RANK"
        )
    local_rank = int(environ.get("LOCAL_RANK", "0"))
    device = choose_device(local_rank, torch.cuda.device_count())
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=timedelta(seconds=timeout_s))
    control = dist.new_group(backend="gloo", timeout=timedelta(seconds=control_timeout_s))
    assert isinstance(control, dist.ProcessGroup)
    return World(dist.get_rank(), local_rank, dist.get_world_size(), device, control)


def leave() -> None:
    """Close the process groups. For a rank that ends well: after a failure the others may never answer."""
    if dist.is_initialized():
        dist.destroy_process_group()


def choose_device(local_rank: int, gpus: int) -> torch.device:
    """One GPU per process where the host has any, else the CPU. Raises BadWorld when there are too few."""
    if gpus == 0:
        return torch.device("cpu")
    if local_rank >= gpus:
        raise BadWorld(
            f"LOCAL_RANK={local_rank} has no GPU: this host shows {gpus}. Start at most {gpus} processes per host, "
            f"or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    return torch.device("cuda", local_rank)


def wrap(model: nn.Module, world: World) -> nn.Module:
    """`model` on the world's device, as a DistributedDataParallel whose steps repeat after a restart.

    All ranks start with rank 0's weights and buffers. Without a process group it is the model itself.
    """
    model.to(world.device)
    if not dist.is_initialized():
        return model
    ddp = DistributedDataParallel(model, device_ids=[world.device] if world.device.type == "cuda" else None)
    settle_buckets(ddp)
    return ddp


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module: what is captured, restored and evaluated."""
    return model.module if isinstance(model, DistributedDataParallel) else model


_ORDER_MATTERS: Final = 3
"""Ranks."""
_settled: WeakSet[DistributedDataParallel] = WeakSet()
"""A second backward of zeros would count every gradient twice: whoever wraps and whoever restores may both ask."""


def settle_buckets(ddp: DistributedDataParallel) -> None:
    """Give a new DDP the gradient buckets of its second step before its first one. A collective; no-op when unneeded.

    DDP reduces its first backward pass in a single bucket and then rebuilds the buckets, once, in the order in which
    gradients became ready. Where an element lies in a bucket decides in which order the ranks' values are added up,
    so with three ranks or more the first step after a restart, taken in one bucket, differs in its last bits from
    the same step of the undisturbed run, taken in several. Here one backward pass of zeros over all parameters,
    last one first, uses up the single bucket. The next forward rebuilds, and from the first real step on the layout
    is the same in every life of the run. It costs one all-reduce of the model's size at a start and nothing later.
    (`find_unused_parameters=True` has no rebuild either, but walks the graph and reduces a bitmap in every step.)

    Gradients are left as they were; hooks on parameters see the zeros. Not settled, as zeros cannot stand in for
    their gradients: DDP with `static_graph=True`, and models with sparse embeddings. Two ranks need it not: a sum of
    two values is the same in either order.
    """
    if ddp in _settled or ddp.process_group.size() < _ORDER_MATTERS:
        return
    if ddp.find_unused_parameters or ddp.static_graph or _has_sparse_gradients(ddp.module):
        return
    _settled.add(ddp)
    parameters = [parameter for parameter in ddp.module.parameters() if parameter.requires_grad]
    kept = [parameter.grad for parameter in parameters]
    ddp.reducer.prepare_for_backward([])
    for parameter in reversed(parameters):
        parameter.grad = None
        parameter.backward(torch.zeros_like(parameter))
    for parameter, gradient in zip(parameters, kept, strict=True):
        parameter.grad = gradient


def _has_sparse_gradients(model: nn.Module) -> bool:
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.sparse for part in model.modules())


@torch.no_grad()
def sync_buffers(model: nn.Module) -> None:
    """Give every rank rank 0's buffers (BatchNorm's running statistics). A collective.

    DDP does the same at the start of every training forward, so the training does not notice. Between the steps each
    rank's buffers have seen only its own samples: call this before they are evaluated or captured.
    """
    if not dist.is_initialized():
        return
    alike: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
    for buffer in model.buffers():
        if isinstance(buffer, DTensor):  # Tensor parallelism has cut it, or made it alike.
            continue
        alike.setdefault((buffer.device, buffer.dtype), []).append(buffer)
    for buffers in alike.values():
        flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
        dist.broadcast(flat, src=0)
        for buffer, value in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(value.view_as(buffer))


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor in it, inside lists, tuples and dicts too, on `device`."""
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch.to(device, non_blocking=True) if hasattr(batch, "to") else batch


def make_deterministic() -> None:
    """Choose kernels that give the same bits on every run, where torch has them; it warns where it has none.

    Before the first use of a GPU: cuBLAS reads its setting once.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every fresh tensor finds code that reads memory before writing it. That is a debugging aid, not free.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set through a property
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
