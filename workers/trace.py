"""The trace: one JSON line per step and rank, for comparing runs loss by loss."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from .checkpoint.progress import Progress


class Trace:
    """Appends, so that after a restart the steps that are done again appear again. Losses keep every bit."""

    def __init__(self, path: Path | None, every: int) -> None:
        """No path: nothing is written, and no loss is looked at."""
        self._every = every
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8") if path is not None else None

    def step(self, progress: Progress, loss: torch.Tensor) -> None:
        if self._file is None or progress.step % self._every:
            return
        line = {"epoch": progress.epoch, "step": progress.step, "samples": progress.samples, "loss": float(loss)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def open_trace(template: str | None, rank: int, every: int) -> Trace:
    """`template` has `{rank}` in it; None for no trace."""
    return Trace(Path(template.replace("{rank}", str(rank))) if template else None, every)
