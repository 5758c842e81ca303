"""What ranks do in test_worlds.py: save, resume, disagree. Played by real ranks (tests/workers/ranks.py)."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.storage.digest import digest
from relight.storage.reading import ShardReader
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.errors import WorkerError
from relight.workers.parallel import World, _settled, wrap
from relight.workers.signals import StopFlag


def _open(url: Path, world: World, width: int = 300) -> tuple[nn.Module, torch.optim.Optimizer, Checkpointer]:
    torch.manual_seed(5)
    model = wrap(nn.Sequential(nn.Linear(100, width), nn.BatchNorm1d(width), nn.Linear(width, 1)), world)
    optimizer = torch.optim.AdamW(model.parameters())
    settings = CheckpointSettings(every=1000, identity={"name": "worlds"})
    stop = StopFlag()
    checkpointer = Checkpointer(
        str(url), model=model, optimizer=optimizer, settings=settings, control=world.control, stop=stop
    )
    return model, optimizer, checkpointer


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> float:
    optimizer.zero_grad()
    torch.manual_seed(world.rank)
    loss = model(torch.randn(6, 100)).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss)


def saving(world: World, directory: Path) -> dict[str, Any]:
    """Three steps, committed. The shares of the ranks, and the statistics that each of them saw."""
    model, optimizer, checkpointer = _open(directory / "run", world)
    checkpointer.restore()
    random.seed(world.rank)
    for _ in range(3):
        checkpointer.step(loss=_train(model, optimizer, world))
    checkpointer.finish()
    backend = open_backend(str(directory / "run"))
    manifest = Catalog(backend).find().manifest
    return {
        "digest": digest(backend, manifest),
        "loss": manifest.progress.loss,
        "shares": [entry.size for entry in manifest.shards],
        "tensors": [len(ShardReader(backend, manifest, rank).layout().placed) for rank in range(world.world_size)],
        "running mean": model.state_dict()["module.1.running_mean"][0].item(),
        "next random": random.random(),
    }


def settled(world: World, _directory: Path) -> bool:
    """Whether a restore settles the buckets of a model that the user's script has wrapped itself."""
    model = DistributedDataParallel(nn.Linear(1, 1))
    before = model in _settled
    Checkpointer(tempfile.mkdtemp(), model=model, control=world.control, stop=StopFlag()).restore()
    return not before and model in _settled


def resuming(world: World, directory: Path) -> dict[str, Any]:
    """What the saved run says here, and the digest after it was saved once more by these ranks."""
    model, _, checkpointer = _open(directory / "run", world)
    random.seed(1000 + world.rank)
    progress = checkpointer.restore()
    found = {"step": progress.step, "next random": random.random()}
    found["running mean"] = next(value for name, value in model.state_dict().items() if "running_mean" in name)[
        0
    ].item()
    progress.metrics = {"resumed by": float(world.world_size)}  # Something to save.
    checkpointer.finish()
    backend = open_backend(str(directory / "run"))
    newest = Catalog(backend).find().manifest
    assert newest.world_size == world.world_size
    return found


def refused(world: World, directory: Path) -> list[str]:
    """The answers to a model that does not fit, and to another run's name."""
    _, _, wider = _open(directory / "run", world, width=301)
    settings = CheckpointSettings(identity={"name": "another"})
    model = wrap(nn.Linear(1, 1), world)
    stranger = Checkpointer(str(directory / "run"), model=model, settings=settings, control=world.control)
    return [_refusal(wider), _refusal(stranger)]


def _refusal(checkpointer: Checkpointer) -> str:
    try:
        checkpointer.restore()
    except WorkerError as error:
        return f"{type(error).__name__}: {error}"
    return "restored"
