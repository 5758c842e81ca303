"""What ranks do in test_large.py: save a state of many blocks, bring it back, and look at what that took."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from relight.storage.catalog import Catalog
from relight.storage.persist import persist
from relight.tests.storage.checkpoints import attempt_id, job
from relight.tests.workers.checkpoint import states
from relight.tests.workers.checkpoint.restores import Counting
from relight.workers.checkpoint import bringing
from relight.workers.checkpoint.applying import Fitting
from relight.workers.checkpoint.collective import Circle
from relight.workers.checkpoint.models import materialize
from relight.workers.checkpoint.restoring import find
from relight.workers.checkpoint.state import Parts
from relight.workers.parallel import World

LAYERS, WIDTH = 12, 1024
FACTS: dict[str, Any] = {"epoch": 0, "step": 4, "samples": 0, "loss": None, "metrics": {}}


def _parts(world: World, wrap: str, device: str) -> Parts:
    with torch.device(device):
        model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    if wrap == "fsdp":
        mesh = init_device_mesh("cpu", (world.world_size,))
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return Parts(model=model, optimizer=torch.optim.AdamW(model.parameters()))


def saving(world: World, directory: Path) -> None:
    """As FSDP and as DDP would leave it, without a step being trained."""
    for wrap in ("fsdp", "ddp"):
        torch.manual_seed(0)
        parts = _parts(world, wrap, "cpu")
        for parameter in parts.models[""].parameters():
            parameter.grad = torch.ones_like(parameter)
        parts.optimizers["optimizer"].step()
        data = states.staged(parts, FACTS, world.rank, world.world_size)
        if world.rank == 0:
            dist.barrier()
        persist(Counting(directory / wrap), job(attempt_id(4), world.rank, world.world_size), data)
        if world.rank != 0:
            dist.barrier()
        dist.barrier()


def restoring_fsdp(world: World, directory: Path) -> dict[str, Any]:
    """A model without memory is given the state that the same ranks have saved as FSDP."""
    return _restore(world, directory / "fsdp", "fsdp", "meta")


def resharding(world: World, directory: Path) -> dict[str, Any]:
    """The same, of a state that was saved as DDP: other tensors, other cuts."""
    return _restore(world, directory / "ddp", "fsdp", "meta")


def live(world: World, directory: Path) -> dict[str, Any]:
    """A model that has its weights already, which stay until all is proven."""
    return _restore(world, directory / "fsdp", "fsdp", "cpu")


def replicated(world: World, directory: Path) -> dict[str, Any]:
    return _restore(world, directory / "fsdp", "ddp", "cpu")


def _restore(world: World, url: Path, wrap: str, device: str) -> dict[str, Any]:
    bringing.BUCKET_BYTES = 16 << 20
    circle, backend = Circle(world.control), Counting(url)
    parts = _parts(world, wrap, device)
    dist.barrier()
    before = _reset_peak()
    is_blank = materialize(parts.models, lambda: None) is not None
    fitting = Fitting(parts, world.rank, world.world_size, is_blank=is_blank)
    found = find(backend, circle, prepare=fitting.prepare)
    assert found is not None
    with found:
        fitting.apply(found)
        circle.meet()
    peak = _status("VmHWM") - before
    size = Catalog(backend).find().manifest.size
    return {
        "peak": peak,
        "new": _local_bytes(parts, lambda tensor: device == "meta" or not isinstance(tensor, nn.Parameter)),
        "held": _local_bytes(parts, lambda _: True),
        "bucket": bringing.BUCKET_BYTES,
        "read": backend.read_bytes,
        "size": size,
        "sum": [float(_local(tensor).double().sum()) for tensor in _tensors(parts)][:3],
    }


def _tensors(parts: Parts) -> list[torch.Tensor]:
    moments = parts.optimizers["optimizer"].state.values()
    return [*parts.models[""].parameters(), *(tensor for each in moments for tensor in each.values())]


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _local_bytes(parts: Parts, counts: Callable[[torch.Tensor], bool]) -> int:
    return sum(math.prod(_local(tensor).shape) * 4 for tensor in _tensors(parts) if counts(tensor))


def _reset_peak() -> int:
    """Resident bytes now, from which the peak counts again."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))
