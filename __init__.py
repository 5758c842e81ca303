"""Relight keeps PyTorch training runs alive. This is the library door: the public names, nothing else.

Names are imported when they are first used, so that `import relight` costs nothing and the commands that do not train
never load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .workers.checkpoint.checkpointer import Checkpointer
    from .workers.checkpoint.progress import Progress
    from .workers.checkpoint.settings import CheckpointSettings
    from .workers.replay import Replayable
    from .workers.sampler import GlobalBatchSampler
    from .workers.task import Task

__version__ = "0.1.0"

__all__ = ["CheckpointSettings", "Checkpointer", "GlobalBatchSampler", "Progress", "Replayable", "Task", "__version__"]

_HOMES = {
    "Checkpointer": "workers.checkpoint.checkpointer",
    "CheckpointSettings": "workers.checkpoint.settings",
    "GlobalBatchSampler": "workers.sampler",
    "Progress": "workers.checkpoint.progress",
    "Replayable": "workers.replay",
    "Task": "workers.task",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module 'relight' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
