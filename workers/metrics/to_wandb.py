"""Scalars for Weights & Biases: one run there for all lives of a run here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .logger import Outcome, RunFacts
from .requiring import require


class WandB:
    """`options` are those of `wandb.init`; project, id and name are the run's unless they are given.

    A step that an earlier life has logged stays as it was: history there is only ever added to.
    """

    def __init__(self, **options: Any) -> None:
        require("wandb", "wandb", "the logger wandb")
        self._options = options
        self._run: Any = None
        self._next_step = 0

    def begin(self, run: RunFacts) -> None:
        import wandb

        ours = {"project": run.name, "id": run.id, "name": run.name, "resume": "allow", "config": dict(run.config)}
        self._run = wandb.init(**(ours | self._options))
        self._next_step = self._run.step

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        if step >= self._next_step:
            self._run.log(dict(scalars), step=step)

    def end(self, outcome: Outcome) -> None:
        if self._run is None:
            return
        if outcome is Outcome.PREEMPTED:
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if outcome is Outcome.FINISHED else 1)
