"""Relight keeps PyTorch training runs alive. This is the library door: the public names, nothing else.

Names are imported when they are first used, so that `import relight` costs nothing and the commands that do not train
never load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import dcp
    from .workers.accumulation import Step, steps
    from .workers.checkpoint.checkpointer import Checkpointer
    from .workers.checkpoint.progress import Progress
    from .workers.checkpoint.settings import CheckpointSettings
    from .workers.checkpoint.warmstart.loading import init_from
    from .workers.checkpoint.warmstart.settings import InitFrom
    from .workers.metrics.logger import Logger, RunFacts
    from .workers.metrics.to_mlflow import MLflow
    from .workers.metrics.to_tensorboard import TensorBoard
    from .workers.metrics.to_wandb import WandB
    from .workers.order import BucketedOrder, Order, SequentialOrder, ShuffledOrder, WeightedOrder
    from .workers.replay import Replayable
    from .workers.sampler import GlobalBatchSampler
    from .workers.task import Task

__version__ = "0.1.0"

__all__ = [
    "BucketedOrder",
    "CheckpointSettings",
    "Checkpointer",
    "GlobalBatchSampler",
    "InitFrom",
    "Logger",
    "MLflow",
    "Order",
    "Progress",
    "Replayable",
    "RunFacts",
    "SequentialOrder",
    "ShuffledOrder",
    "Step",
    "Task",
    "TensorBoard",
    "WandB",
    "WeightedOrder",
    "__version__",
    "dcp",
    "init_from",
    "steps",
]

_HOMES = {
    "BucketedOrder": "workers.order",
    "Checkpointer": "workers.checkpoint.checkpointer",
    "CheckpointSettings": "workers.checkpoint.settings",
    "GlobalBatchSampler": "workers.sampler",
    "InitFrom": "workers.checkpoint.warmstart.settings",
    "Logger": "workers.metrics.logger",
    "MLflow": "workers.metrics.to_mlflow",
    "Order": "workers.order",
    "Progress": "workers.checkpoint.progress",
    "Replayable": "workers.replay",
    "RunFacts": "workers.metrics.logger",
    "SequentialOrder": "workers.order",
    "ShuffledOrder": "workers.order",
    "Step": "workers.accumulation",
    "Task": "workers.task",
    "TensorBoard": "workers.metrics.to_tensorboard",
    "WandB": "workers.metrics.to_wandb",
    "WeightedOrder": "workers.order",
    "init_from": "workers.checkpoint.warmstart.loading",
    "steps": "workers.accumulation",
}


def __getattr__(name: str) -> Any:
    if name == "dcp":
        return import_module(".dcp", __name__)
    if name not in _HOMES:
        message = f"module 'relight' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
