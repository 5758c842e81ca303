"""What ranks do in test_shapes.py: train one model under any wrap, save it, and go on with it under any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.digest import digest
from relight.storage.persist import persist
from relight.tests.storage.checkpoints import attempt_id, job
from relight.tests.workers.checkpoint import states
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.checkpoint.state import Parts
from relight.workers.parallel import World
from relight.workers.signals import StopFlag

WRAPS = ("ddp", "fsdp", "hsdp", "tp+fsdp")
STEPS = 3
MORE = 10
BATCH = 8
LR = 1e-3
_IN, _WIDTH = 6, 10  # Ten rows over four ranks, or over two by two, come out uneven.


class Block(nn.Module):
    """Two layers that a tensor-parallel plan cuts apart, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.up = nn.Linear(_WIDTH, 14)
        self.down = nn.Linear(14, _WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.down(torch.tanh(self.up(self.norm(x))))
        return x + hidden


class Net(nn.Module):
    """With a frozen parameter, tied ones, a scalar one and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(_IN, _WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.last = nn.Linear(_WIDTH, _IN, bias=False)
        self.again = nn.Linear(_WIDTH, _IN, bias=False)
        self.again.weight = self.last.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.frozen = nn.Linear(_IN, _IN).requires_grad_(requires_grad=False)
        self.seen: torch.Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        hidden = self.first(self.frozen(x))
        for block in self.blocks:
            hidden = block(hidden)
        out: torch.Tensor = (self.last(hidden) + self.again(hidden)) * self.scale
        return out


class Average:
    """An exponential average of the weights, sharded as they are."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._values = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        for name, value in self._model.named_parameters():
            self._values[name].lerp_(value, 0.1)

    def state_dict(self) -> dict[str, Any]:
        return {name.removeprefix("module."): value for name, value in self._values.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for name, value in self._values.items():
            value.copy_(state_dict[name.removeprefix("module.")])


def wrapped(world: World, wrap: str, model: nn.Module) -> tuple[nn.Module, int, int]:
    """The model, and which of how many equal parts of a batch this rank sees."""
    size = world.world_size
    if wrap == "ddp":
        return (DistributedDataParallel(model) if size > 1 else model), world.rank, size
    if wrap == "fsdp":
        return _fsdp(model, init_device_mesh("cpu", (size,))), world.rank, size
    outer, inner = (2, 2) if size == 4 else (1, size)
    mesh = init_device_mesh("cpu", (outer, inner), mesh_dim_names=("outer", "inner"))
    if wrap == "hsdp":
        return _fsdp(model, mesh), world.rank, size
    plan: dict[str, ParallelStyle] = {}
    for number in range(2):
        plan[f"blocks.{number}.up"] = ColwiseParallel()
        plan[f"blocks.{number}.down"] = RowwiseParallel()
    parallelize_module(model, mesh["inner"], plan)
    return _fsdp(model, mesh["outer"]), mesh.get_local_rank("outer"), outer


def _fsdp(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    for block in model.get_submodule("blocks").children():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


class Run:
    """One life of the training on one world, under one wrap."""

    def __init__(self, world: World, wrap: str, url: Path, *, seed: int = 1) -> None:
        torch.manual_seed(seed)
        self.model, self._part, self._parts = wrapped(world, wrap, Net())
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=LR)
        self.average = Average(self.model)
        self._world = world
        self.checkpointer = Checkpointer(
            str(url),
            model=self.model,
            optimizer=self.optimizer,
            extra={"average": self.average},
            settings=CheckpointSettings(every=STEPS, identity={"name": "shapes"}),
            control=world.control,
            stop=StopFlag(),
        )

    def save_again(self, url: Path, facts: Mapping[str, Any]) -> str:
        """The digest of a checkpoint of what is here now, written without a persister's process for each rank."""
        rank, size = self._world.rank, self._world.world_size
        parts = Parts(model=self.model, optimizer=self.optimizer, shared={"average": self.average})
        data = states.staged(parts, facts, rank, size)
        if rank == 0 and dist.is_initialized():
            dist.barrier()  # The others' shards are there: rank 0 commits.
        outcome = persist(LocalBackend(url), job(attempt_id(facts["step"]), rank, size), data)
        assert not outcome.failed, outcome.failed
        if rank != 0:
            dist.barrier()
        if dist.is_initialized():
            dist.barrier()
        return digest(LocalBackend(url), Catalog(LocalBackend(url)).find().manifest)

    def train(self, step: int) -> float:
        """One step on a batch that depends on its number alone; the mean loss of the whole batch."""
        batch = torch.randn(BATCH, _IN, generator=torch.Generator().manual_seed(step))
        mine = batch.chunk(self._parts)[self._part]
        self.optimizer.zero_grad()
        loss = (self.model(mine) - mine).square().mean()
        loss.backward()
        self.optimizer.step()
        self.average.update()
        total = loss.detach().clone()
        if dist.is_initialized():
            dist.all_reduce(total)
        return float(total) / self._world.world_size


def saving(world: World, directory: Path) -> dict[str, Any]:
    """By wrap: the digest of what was saved after a few steps, and the losses of the steps after it, undisturbed."""
    answers = {}
    for wrap in WRAPS:
        url = directory / f"{wrap}-{world.world_size}"
        run = Run(world, wrap, url)
        run.checkpointer.restore()
        for step in range(STEPS):
            run.checkpointer.step(loss=run.train(step))
        run.checkpointer.finish()
        losses = [run.train(STEPS + step) for step in range(MORE)]
        manifest = Catalog(LocalBackend(url)).find().manifest
        answers[wrap] = {
            "digest": digest(LocalBackend(url), manifest),
            "losses": losses,
            "shares": [entry.size for entry in manifest.shards],
        }
    return answers


def resuming(world: World, directory: Path) -> list[dict[str, Any]]:
    """For each pair: the digest of what was resumed, saved again, and the losses of the steps after it."""
    answers = []
    for saved, wrap, again in json.loads((directory / "pairs.json").read_text()):
        run = Run(world, wrap, directory / saved, seed=2)
        progress = run.checkpointer.restore()
        to = f"{wrap}-{world.world_size}"
        answer = {
            "from": saved,
            "as": to,
            "step": progress.step,
            "digest": run.save_again(directory / again, progress.facts()),
            "losses": [run.train(STEPS + step) for step in range(MORE)],
        }
        answers.append(answer)
    return answers
