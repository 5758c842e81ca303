"""On the ranks: real trainings under DDP, step times with and without Relight, taken by turns."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import relight

from .peers.ours import settings

_FAR_AWAY: Final = 10**9
_LAYERS: Final = 8
_BYTES_PER_PARAMETER: Final = 12
"""float32: the parameter and its two moments."""

_WARM_STEPS: Final = 3
_SMALL_BYTES: Final = 8 << 20
_SMALL_STEP_S: Final = 0.02
_EVERY: Final = 150
"""Steps between two saves where saving is measured: many more than a save takes."""

Blocks = dict[str, list[float]]


class Training:
    """A perceptron of `total_bytes` of model and optimizer state, and a batch that makes a step take its time."""

    def __init__(self, total_bytes: int, step_s: float) -> None:
        torch.manual_seed(0)
        width = max(8, int(math.sqrt(total_bytes / _BYTES_PER_PARAMETER / _LAYERS)))
        layers = [part for _ in range(_LAYERS) for part in (nn.Linear(width, width), nn.ReLU())]
        self.model = DistributedDataParallel(nn.Sequential(*layers))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self._batch = torch.rand(4, width)
        self._calibrate(step_s)

    def step(self) -> torch.Tensor:
        loss: torch.Tensor = self.model(self._batch).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _calibrate(self, step_s: float) -> None:
        """Find the batch, the same on all ranks, with which a step takes `step_s` seconds or a little more."""
        width = self._batch.shape[1]
        for _ in range(8):
            for _ in range(_WARM_STEPS):
                self.step()
            took_s = _agreed(_timed(self.step))
            if took_s >= step_s:
                return
            self._batch = torch.rand(math.ceil(self._batch.shape[0] * min(4.0, 1.1 * step_s / took_s)), width)


def steady(*, url: str, blocks: int, steps: int) -> Blocks:
    """No save is due, neither to storage nor to memory: what is left is Relight's own work in each step."""
    training = Training(_SMALL_BYTES, _SMALL_STEP_S)
    checkpoint = _checkpointer(url, training, every=_FAR_AWAY, memory_every="never")
    return _by_turns(training, checkpoint, blocks, steps)


def memory_every_step(*, url: str, total_bytes: int, step_s: float, blocks: int, steps: int) -> Blocks:
    """The whole state is copied in the host's memory at every step; nothing goes to storage."""
    training = Training(total_bytes, step_s)
    checkpoint = _checkpointer(url, training, every=_FAR_AWAY, memory_every=1)
    return _by_turns(training, checkpoint, blocks, steps)


def _checkpointer(
    url: str, training: Training, extra: Mapping[str, Any] | None = None, **wanted: Any
) -> relight.Checkpointer:
    checkpoint = relight.Checkpointer(
        url, model=training.model, optimizer=training.optimizer, extra=extra, settings=settings(**wanted)
    )
    checkpoint.restore()
    return checkpoint


def _by_turns(training: Training, checkpoint: relight.Checkpointer, blocks: int, steps: int) -> Blocks:
    """Mean step times of blocks: bare, ours, bare, ours, ... after one of each that is not counted."""

    def with_relight() -> None:
        checkpoint.step(loss=training.step())

    found: Blocks = {"bare": [], "ours": []}
    for number in range(blocks + 1):
        for kind, step in (("bare", training.step), ("ours", with_relight)):
            dist.barrier()
            took_s = _agreed(_timed(lambda step=step: [step() for _ in range(steps)])) / steps
            if number:
                found[kind].append(took_s)
    return found


class Ballast:
    """State that is saved and not trained, so that steps are short beside a save."""

    def __init__(self, total_bytes: int) -> None:
        self._blocks = [torch.rand(total_bytes // 64) for _ in range(16)]

    def state_dict(self) -> dict[str, Any]:
        return {"blocks": self._blocks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._blocks = state_dict["blocks"]


def persisting(*, url: str, total_bytes: int, saves: int, pinned: bool) -> Blocks:
    """Mean step times while a save is being written, each beside the mean of the steps before it.

    `pinned`: the training's thread stays on one core; what persists may use the others.
    """
    if pinned:
        torch.set_num_threads(1)
    training = Training(_SMALL_BYTES, _SMALL_STEP_S)
    extra = {"ballast": Ballast(total_bytes)}
    checkpoint = _checkpointer(url, training, extra, every=_EVERY, keep_last=1, memory_every="never")
    if pinned:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # Of this thread: what it has started stays free.
    found: Blocks = {"quiet": [], "persisting": []}
    for number in range(1, saves + 2):
        quiet, busy = _one_save(training, checkpoint, Path(url), number * _EVERY)
        if number > 1 and busy:
            found["quiet"].append(sum(quiet) / len(quiet))
            found["persisting"].append(sum(busy) / len(busy))
    checkpoint.finish()
    return found


def _one_save(
    training: Training, checkpoint: relight.Checkpointer, run: Path, due: int
) -> tuple[list[float], list[float]]:
    """The second half of the steps before the save of step `due`, and the steps until it was committed."""

    def step() -> None:
        checkpoint.step(loss=training.step())

    before = []
    while checkpoint.progress.step < due - 1:
        before.append(_timed(step))
        _committed(run, due)  # As dear as it is below.
    step()  # This one stands still for the copy.
    busy: list[float] = []
    while not _committed(run, due) and len(busy) < _EVERY // 2:
        busy.append(_timed(step))
    return before[len(before) // 2 :], busy[:-1]  # The last one was not beside the save all the time.


def _committed(run: Path, step: int) -> bool:
    """The ranks agree on it, so that all of them do the same steps."""
    there = any(run.glob(f"checkpoints/step-{step:012d}-*/manifest.json"))
    return bool(_agreed(float(there)))


def _timed(act: Any) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _agreed(value: float) -> float:
    """The greatest over all ranks."""
    agreed = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(agreed, op=dist.ReduceOp.MAX)
    return agreed.item()
