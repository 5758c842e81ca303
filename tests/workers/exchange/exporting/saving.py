"""Real checkpoints of whatever parts, saved by the library door, for exports to be made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.signals import StopFlag


def save(url: Path, *, steps: int = 1, recipe: dict[str, Any] | None = None, **parts: Any) -> None:
    """A finished run of so many steps, each of which is a checkpoint."""
    settings = CheckpointSettings(every=1, when_busy="wait", keep_last=9, recipe=recipe or {})
    checkpointer = Checkpointer(str(url), settings=settings, stop=StopFlag(), **parts)
    checkpointer.restore()
    for _ in range(steps):
        checkpointer.step(loss=0.5)
    checkpointer.finish()


def shards(url: Path) -> list[Path]:
    """The shards of the newest checkpoint."""
    newest = Catalog(open_backend(str(url))).find().id
    return sorted((url / newest.folder).glob("*.safetensors"))


def load(path: Path, *, weights_only: bool = True, mmap: bool = False) -> Any:
    """As whoever is given the file does."""
    return torch.load(path, weights_only=weights_only, mmap=mmap)  # noqa: TID251 -- written by this very test


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def net() -> nn.Module:
    """What the commands are told to make."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def job_net() -> nn.Module:
    """The model of `tests/workers/checkpoint/jobs.py`."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
