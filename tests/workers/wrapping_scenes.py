"""What the ranks of `test_wrapping_ranks.py` do together; every function here runs on each of them."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from relight.configs.parallel import ParallelConfig
from relight.tests.workers.wrapping_tasks import (
    CutAndParted,
    Forgetful,
    Misnamed,
    Normed,
    Parted,
    Planless,
    Toy,
    Unable,
    points,
)
from relight.workers.accumulation import steps
from relight.workers.errors import WorkerError
from relight.workers.evaluate import evaluate
from relight.workers.parallel import World, unwrap
from relight.workers.replay import open_loader
from relight.workers.sampler import GlobalBatchSampler
from relight.workers.seeding import seed_everything
from relight.workers.task import Task
from relight.workers.wrapping.build import build, settle
from relight.workers.wrapping.streams import share_streams

BATCH, MAX_PER_RANK = 16, 4  # The last two batches of an epoch have ten samples each, which four ranks share unevenly.
SEED = 3


def modes(world_size: int) -> dict[str, ParallelConfig]:
    return {
        "ddp": ParallelConfig(mode="ddp"),
        "fsdp": ParallelConfig(mode="fsdp"),
        "hsdp": ParallelConfig(mode="hsdp", shard=max(1, world_size // 2)),
        "tp+fsdp": ParallelConfig(mode="tp+fsdp", tensor=min(2, world_size)),
    }


def all_scenes(world: World) -> dict[str, Any]:
    """One world for all of them: starting the processes takes longer than the scenes."""
    scenes = [training, measuring, starting, blank, statistics, repeating, narrow]
    each = modes(world.world_size)
    answers = {scene.__name__: {name: scene(world, mode) for name, mode in each.items()} for scene in scenes}
    return {**answers, "refusals": refusals(world), "fewest": fewest(world), "sharing": sharing(world)}


def all_losses(world: World) -> dict[str, list[float]]:
    whole_world = ParallelConfig(mode="tp+fsdp", tensor=world.world_size)
    each = {**modes(world.world_size), "tp alone": whole_world}
    return {name: training(world, mode) for name, mode in each.items()}


# --- what all modes have in common ---


def training(world: World, parallel: ParallelConfig) -> list[float]:
    """The loss of each step of two epochs; on fewer than four ranks they are made of several micro-batches."""
    world, task, model = _built(world, parallel)
    return train(task, model, world, epochs=2)


def train(task: Task, model: nn.Module, world: World, epochs: int) -> list[float]:
    optimizer = task.optimizer(unwrap(model))
    data = task.train_data()
    sampler = GlobalBatchSampler(
        len(data),  # type: ignore[arg-type]
        batch_size=BATCH,
        rank=world.data_rank,
        world_size=world.data_world_size,
        seed=SEED,
        max_per_rank=MAX_PER_RANK,
    )
    losses = []
    for epoch in range(epochs):
        sampler.set_position(epoch, 0)
        for step in steps(open_loader(data, sampler), model):
            optimizer.zero_grad()
            for batch in step:
                step.weighted(task.loss(model, batch)).backward()
            optimizer.step()
            losses.append(_mean(step.loss))
    return losses


def measuring(world: World, parallel: ParallelConfig) -> dict[str, Any]:
    """Metrics over 13, 9 and 1 samples in batches of two, the losses of steps that are taken then.

    And the numbers of parameters on this rank: before, in between and in the end.
    """
    world, task, model = _built(world, parallel)
    held = [_held(model)]
    metrics = {str(count): evaluate(task, model, points(count), world, batch_size=2)["loss"] for count in (13, 9, 1)}
    held.append(_held(model))
    losses = train(task, model, world, epochs=1)
    return {"metrics": metrics, "losses after": losses, "held": [*held, _held(model)]}


def starting(world: World, parallel: ParallelConfig) -> str:
    """The initial weights, where each rank would have chosen others."""
    _, _, model = _built(world, parallel, seed=SEED + world.rank)
    return digest(model)


def blank(world: World, parallel: ParallelConfig) -> str:
    """The initial weights of a model that was built on the meta device."""
    if parallel.mode == "ddp":
        return ""
    _, _, model = _built(world, parallel.model_copy(update={"meta": True}))
    return digest(model)


def statistics(world: World, parallel: ParallelConfig) -> list[float] | None:
    """BatchNorm's running means on this rank, behind the last step."""
    if parallel.mode == "tp+fsdp":
        return None
    world = settle(world, parallel, world.world_size)
    torch.manual_seed(SEED)
    task = Normed()
    model = build(task, world, parallel)
    train(task, model, world, epochs=1)
    means: list[float] = dict(unwrap(model).named_buffers())["1.running_mean"].tolist()
    return means


def repeating(world: World, parallel: ParallelConfig) -> dict[str, str]:
    """The weights after steps with dropout: of a run that goes on, and of one that starts again from its middle."""
    settled, task, model = _built(world, parallel, dropout=0.5)
    train(task, model, settled, epochs=1)
    weights = [_local(parameter).clone() for parameter in model.parameters()]
    seed_everything(SEED, settled.data_rank)
    train(task, model, settled, epochs=1)
    _, _, again = _built(world, parallel, dropout=0.5)
    with torch.no_grad():
        for parameter, value in zip(again.parameters(), weights, strict=True):
            _local(parameter).copy_(value)
    seed_everything(SEED, settled.data_rank)
    train(task, again, settled, epochs=1)
    return {"undisturbed": digest(model), "restarted": digest(again)}


def narrow(world: World, parallel: ParallelConfig) -> dict[str, Any]:
    """A step in bfloat16 of a model with BatchNorm: what it computes in, what it answers in, and what is kept."""
    if parallel.mode == "tp+fsdp":
        return {}
    world = settle(world, parallel, world.world_size)
    torch.manual_seed(SEED)
    task = Normed()
    model = build(task, world, parallel, "bf16")
    seen: list[str] = []
    unwrap(model).get_submodule("2").register_forward_hook(lambda _, __, out: seen.append(str(out.dtype)))
    inputs, _ = points(4)[:]
    answer = model(inputs).dtype
    losses = train(task, model, world, epochs=2)
    kept = {str(parameter.dtype) for parameter in model.parameters()} | {str(_grad(model).dtype)}
    return {"computed": seen[0], "answered": str(answer), "kept": sorted(kept), "losses": losses}


# --- what is refused ---


def refusals(world: World) -> dict[str, str]:
    fsdp, tensor = ParallelConfig(mode="fsdp"), ParallelConfig(mode="tp+fsdp", tensor=2)
    meta = ParallelConfig(mode="fsdp", meta=True)
    cases = [
        (Parted, fsdp),
        (CutAndParted, tensor),
        (Misnamed, tensor),
        (Planless, tensor),
        (Forgetful, meta),
        (Unable, meta),
    ]
    answer = {}
    for task, parallel in cases:
        try:
            build(task(), settle(world, parallel, 2), parallel)
        except WorkerError as error:
            answer[task.__name__] = f"{type(error).__name__}: {error}"
    return answer


def sharing(world: World) -> dict[str, list[float]]:
    """What all generators draw next, of ranks that have streams of their own and then those of their group."""
    tensor = settle(world, ParallelConfig(mode="tp+fsdp", tensor=2), 1)
    drawn = {}
    for when, share in (("own", lambda _: None), ("shared", share_streams)):
        seed_everything(SEED, world.rank)
        random.gauss(0, 1)  # Python's generator holds a second number back.
        share(tensor)
        drawn[when] = [random.gauss(0, 1), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002
    return drawn


def fewest(world: World) -> list[int]:
    """The sizes of groups where hosts have one and more ranks, as each of them says of its own."""
    settled = settle(world, ParallelConfig(mode="hsdp"), world.rank + 1)
    return [settled.shard, settled.replicas]


# --- helpers ---


def _built(
    world: World, parallel: ParallelConfig, *, seed: int = SEED, dropout: float = 0.0
) -> tuple[World, Toy, nn.Module]:
    world = settle(world, parallel, world.world_size)
    torch.manual_seed(seed)
    task = Toy(dropout)
    return world, task, build(task, world, parallel)


def _mean(loss: Tensor) -> float:
    total = loss.detach().clone()
    if not dist.is_initialized():
        return float(total)
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def _local(tensor: Tensor) -> Tensor:
    value = tensor.detach()
    return value.to_local() if isinstance(value, DTensor) else value


def _grad(model: nn.Module) -> Tensor:
    gradient = next(model.parameters()).grad
    assert gradient is not None
    return gradient


def _held(model: nn.Module) -> int:
    return sum(_local(parameter).numel() for parameter in model.parameters())


def digest(model: nn.Module) -> str:
    """Of all parameters, whole, by the names that the task gave them. A collective where they are sharded."""
    digest = hashlib.sha256()
    for name, parameter in unwrap(model).named_parameters(remove_duplicate=False):
        value = parameter.detach()
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        digest.update(name.encode() + whole.numpy().tobytes())
    return digest.hexdigest()
