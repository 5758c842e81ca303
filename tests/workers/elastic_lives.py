"""Real ranks that are really killed, in one world after the other: played by test_elastic.py in a process of its own.

Every rank notes what it trains on; the last one alive notes the weights that came of it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from relight.workers.accumulation import steps
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.parallel import World, join, leave, wrap
from relight.workers.sampler import GlobalBatchSampler
from relight.workers.signals import StopFlag

LENGTH, BATCH, EPOCHS, SEED = 203, 16, 3, 7
STEPS = EPOCHS * 13
WORLDS = (4, 2, 3, 1, 1)
"""The last one lives to the end."""
LARGEST = 5
"""Samples that a rank takes at once: all of its share on 4 ranks, a third or a quarter of it on 1."""


class Training:
    """What does not depend on the world: a model, its data and how it is stepped. In float64, to compare sums."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(LENGTH, 4, generator=generator, dtype=torch.float64)
        self.targets = torch.randn(LENGTH, 1, generator=generator, dtype=torch.float64)
        torch.manual_seed(2)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 10, gamma=0.5)

    def loss(self, model: nn.Module, indices: torch.Tensor) -> torch.Tensor:
        return mse_loss(model(self.inputs[indices]), self.targets[indices])

    def weights(self) -> list[float]:
        return [float(value) for parameter in self.model.parameters() for value in parameter.detach().reshape(-1)]


def batches() -> dict[int, tuple[int, list[int]]]:
    """Epoch and global batch of every step, as one rank alone would have them."""
    found: list[tuple[int, list[int]]] = []
    for epoch in range(EPOCHS):
        sampler = GlobalBatchSampler(LENGTH, batch_size=BATCH, rank=0, world_size=1, seed=SEED)
        sampler.set_position(epoch, 0)
        found += [(epoch, [int(index) for index in batch]) for batch in sampler]
    return dict(enumerate(found, 1))


def undisturbed() -> list[float]:
    """The weights that come of whole batches on one rank, without anything of Relight but the order."""
    training = Training()
    for _, batch in batches().values():
        training.optimizer.zero_grad()
        training.loss(training.model, torch.tensor(batch)).backward()
        training.optimizer.step()
        training.scheduler.step()
    return training.weights()


MOMENTS = ("batch", "gradients", "step")
"""When in a step a rank may be killed: before the first of these, or right behind it."""


@dataclass(frozen=True)
class Kill:
    rank: int
    step: int
    moment: str


def kills(seed: int) -> list[Kill]:
    """One for each life but the last."""
    dice = random.Random(seed)
    at = sorted(dice.sample(range(2, STEPS), len(WORLDS) - 1))
    return [Kill(dice.randrange(world), step, dice.choice(MOMENTS)) for world, step in zip(WORLDS, at, strict=False)]


def train(world: World, folder: Path, life: int, kill: Kill | None, num_workers: int) -> None:
    training = Training()
    model = wrap(training.model, world)
    sampler = GlobalBatchSampler(
        LENGTH, batch_size=BATCH, rank=world.rank, world_size=world.world_size, seed=SEED, max_per_rank=LARGEST
    )
    loader = DataLoader(TensorDataset(torch.arange(LENGTH)), batch_sampler=sampler, num_workers=num_workers)
    checkpoint = Checkpointer(
        str(folder / "run"),
        model=model,
        optimizer=training.optimizer,
        scheduler=training.scheduler,
        loader=loader,
        settings=CheckpointSettings(every=3, when_busy="wait"),
        control=world.control,
        stop=StopFlag(),
    )
    progress = checkpoint.restore()
    notes = folder / f"notes-{life}-{world.rank}.jsonl"
    note(notes, {"resumed": progress.step})
    for _ in progress.epochs(EPOCHS):
        for step in steps(loader, model):
            now, samples = progress.step + 1, []
            perhaps_die(kill, Kill(world.rank, now, "batch"))
            training.optimizer.zero_grad()
            for (indices,) in step:
                loss = step.weighted(training.loss(model, indices))
                loss.backward()
                samples += indices.tolist()
            perhaps_die(kill, Kill(world.rank, now, "gradients"))
            note(notes, {"step": now, "epoch": progress.epoch, "samples": samples})
            training.optimizer.step()
            training.scheduler.step()
            checkpoint.step(loss=step.loss)
            perhaps_die(kill, Kill(world.rank, now, "step"))
    note(notes, {"weights": training.weights()})


def perhaps_die(kill: Kill | None, now: Kill) -> None:
    if kill == now:
        os.kill(os.getpid(), signal.SIGKILL)


def note(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    """All lives, one after the other: `FOLDER NUM_WORKERS SEED`."""
    import torch._dynamo  # noqa: F401 -- DDP imports it when it is first built

    folder, num_workers, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for life, (world_size, kill) in enumerate(zip_longest(WORLDS, kills(seed))):
        if live(folder, life, world_size, kill, num_workers) != (kill is None):
            sys.exit(f"life {life} should have ended otherwise: {kill}")


def live(folder: Path, life: int, world_size: int, kill: Kill | None, num_workers: int) -> bool:
    """Whether all ranks came to the end. The first one that does not takes the others with it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_PORT=str(probe.getsockname()[1]), WORLD_SIZE=str(world_size))
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    ranks = [fork(number, folder, life, kill, num_workers) for number in range(world_size)]
    well = True
    while ranks:
        pid, status = os.wait()
        if pid not in ranks:
            continue  # Not a rank but what one has started, which may outlive it.
        ranks.remove(pid)
        if status and well:
            well = False
            for other in ranks:
                os.kill(other, signal.SIGKILL)
    return well


def fork(number: int, folder: Path, life: int, kill: Kill | None, num_workers: int) -> int:
    if pid := os.fork():
        return pid
    try:
        os.environ.update(RANK=str(number), LOCAL_RANK=str(number))
        train(join(), folder, life, kill, num_workers)
        leave()
    except BaseException:  # noqa: BLE001 -- a fork must end here, whatever happened
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
