"""Scalars for TensorBoard, written by rank 0: the loss, the task's metrics, and the launcher's goodput."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..configs.goodput import read_goodput
from .origin import origin

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Scalars:
    """Without a writer nothing is written, and no loss is looked at."""

    def __init__(self, writer: SummaryWriter | None, every: int) -> None:
        self._writer: Any = writer  # Its methods have no types.
        self._every = every
        self._run_dir = origin().run_dir

    def step(self, step: int, loss: torch.Tensor) -> None:
        if self._writer is None or step % self._every:
            return
        self._writer.add_scalar("loss", float(loss), step)
        if self._run_dir is not None and (goodput := read_goodput(self._run_dir)) is not None:
            self._writer.add_scalar("goodput", goodput, step)
        self._writer.flush()  # A step that is not done again must not be missing after a SIGKILL.

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(f"metrics/{name}", value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def open_scalars(folder: str | None, *, rank: int, every: int, first_step: int) -> Scalars:
    """`first_step`: how far the run is. What an earlier life wrote beyond it is done again, and not shown twice."""
    if folder is None or rank != 0:
        return Scalars(None, every)
    from torch.utils.tensorboard import SummaryWriter  # Seconds of imports that a run without it need not pay for.

    return Scalars(SummaryWriter(folder, purge_step=first_step + 1), every)
