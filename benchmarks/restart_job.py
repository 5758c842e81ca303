"""The script that benchmarks.restart starts: `restart_job.py FOLDER relight|plain`.

A small DDP training that saves now and then and writes down each step that it has done, with its process and the
machine's monotonic clock. `relight` is how a script is written for `relight run`; `plain` is how one is written for
torchrun, with torch.save on rank 0 and torch.load on all: Relight's answer to SIGTERM would hold torchrun up.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import relight

STEP_S = 0.02
"""A step's length, so that saving is not all that it does."""

EVERY = 5
"""Steps between two saves."""


class Training:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1)))
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self._log = (folder / f"steps-{dist.get_rank()}.jsonl").open("a", encoding="utf-8")

    @property
    def enough(self) -> bool:
        return (self.folder / "enough").exists()

    def step(self, number: int) -> torch.Tensor:
        threading.Event().wait(STEP_S)
        loss: torch.Tensor = self.model(torch.rand(32, 64)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._log.write(json.dumps({"at": time.monotonic(), "pid": os.getpid(), "step": number}) + "\n")
        self._log.flush()
        return loss.detach()


def relight_loop(training: Training) -> None:
    checkpoint = relight.Checkpointer(
        str(training.folder / "run"),
        model=training.model,
        optimizer=training.optimizer,
        settings=relight.CheckpointSettings(every=EVERY, keep_last=2),
    )
    progress = checkpoint.restore()
    for _ in progress.epochs(1):
        while not training.enough:
            loss = training.step(progress.step + 1)
            if checkpoint.step(loss=loss):
                raise SystemExit(checkpoint.exit_code)


def plain_loop(training: Training) -> None:
    path, written = training.folder / "checkpoint.pt", training.folder / "checkpoint.new"
    step = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)  # noqa: TID251 -- the peer's own way
        training.model.load_state_dict(saved["model"])
        training.optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    while not training.enough:
        step += 1
        training.step(step)
        if step % EVERY == 0 and dist.get_rank() == 0:
            state = {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict(), "step": step}
            torch.save(state, written)
            written.rename(path)


def main(folder: Path, loop: str) -> None:
    dist.init_process_group("gloo")
    {"relight": relight_loop, "plain": plain_loop}[loop](Training(folder))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
