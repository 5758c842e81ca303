"""What ranks do in test_unfit.py: have a state that cannot be saved, or that does not fit on one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Shard

from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.errors import WorkerError
from relight.workers.parallel import World
from relight.workers.signals import StopFlag


class Holding:
    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        raise AssertionError("it was applied")


class Factored(torch.optim.SGD):
    """Keeps a state that is sharded, and not as its parameter is."""

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["row"] = parameter.detach().sum(dim=1)


def every(world: World, directory: Path) -> dict[str, str]:
    """By case: how this rank was refused."""
    mesh = init_device_mesh("cpu", (world.world_size,))
    pending = DTensor.from_local(torch.ones(4), mesh, [Partial()])
    uneven = nn.Linear(4, 4 + world.rank)
    factored = nn.Linear(4, 4, bias=False)
    fully_shard(factored, mesh=mesh)
    optimizer = Factored(factored.parameters(), lr=0.1)
    factored(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return {
        "a sum that is pending": _refusal(world, directory / "a", nn.Linear(1, 1), extra={"sum": Holding(pending)}),
        "a state sharded in its own way": _refusal(world, directory / "b", factored, optimizer=optimizer),
        "stages of a pipeline": _refusal(world, directory / "c", uneven),
        "flattened parameters": _refusal(
            world, directory / "d", FullyShardedDataParallel(nn.Linear(4, 4), device_id=torch.device("cpu"))
        ),
    }


def one_rank_s_own(world: World, directory: Path) -> str:
    """A part that fits everywhere but on rank 1 is applied nowhere."""
    sharded = DTensor.from_local(torch.ones(2), init_device_mesh("cpu", (world.world_size,)), [Shard(0)])
    _refusal(world, directory / "e", nn.Linear(1, 1), extra={"part": Holding(sharded)})
    extra = {"part": Holding(sharded)} | ({"another": Holding(torch.ones(1))} if world.rank == 1 else {})
    return _refusal(world, directory / "e", nn.Linear(1, 1), extra=extra)


def _refusal(world: World, url: Path, model: nn.Module, **parts: Any) -> str:
    try:
        checkpointer = Checkpointer(
            str(url),
            model=model,
            settings=CheckpointSettings(every=100),
            control=world.control,
            stop=StopFlag(),
            **parts,
        )
        checkpointer.restore()
        checkpointer.step()
        checkpointer.finish()
    except WorkerError as error:
        return f"{type(error).__name__}: {error}"
    return "saved"
