"""A task's metrics over the whole validation set: each sample once, on one rank, the same numbers on all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .cutting import share
from .errors import BadTask
from .parallel import World, sync_buffers, to_device, unwrap
from .replay import generators_kept
from .signals import outlive_notice
from .task import Task
from .wrapping.sharding import reshard


def evaluate(
    task: Task, model: nn.Module, data: Dataset[Any], world: World, *, batch_size: int, num_workers: int = 0
) -> dict[str, float]:
    """The mean of each of the task's metrics over `data`. A collective. Leaves training as if it had not been.

    `batch_size` is per rank. Sums are taken in float64. Raises BadTask when `metrics` returns anything but one value
    per sample, or the data is empty.
    """
    length = len(data)  # type: ignore[arg-type]  # every map-style dataset has a length
    if not length:
        raise BadTask(f"{type(task).__name__}.val_data() is empty: return None to go without evaluation")
    batches, counted = _batches(length, world, batch_size)
    loader = _open(data, batches, num_workers)
    sync_buffers(model)
    with _evaluating(unwrap(model)) as module:
        totals = _sum(task, module, loader, world, counted)
    names = sorted(totals)
    count = float(sum(map(len, batches[:counted])))
    summed = torch.tensor([totals[name] for name in names] + [count], dtype=torch.float64)
    if dist.is_initialized():
        dist.all_reduce(summed)
    *sums, count = summed.tolist()
    return {name: total / count for name, total in zip(names, sums, strict=True)}


def conclude(task: Task, model: nn.Module) -> str | None:
    """What the task has to say in the end, under the conditions of an evaluation. A collective."""
    with _evaluating(unwrap(model)) as module:
        return task.finished(module)


def _batches(length: int, world: World, batch_size: int) -> tuple[list[range], int]:
    """This rank's batches, and how many of them, from the first on, count.

    Where the model is sharded every pass through it is a collective. So all ranks make as many as rank 0, whose share
    is the largest: those with fewer batches, or none, look at the first sample and do not count it. The ranks of a
    tensor-parallel group all count the same samples, which changes no mean.
    """
    mine, largest = (range(length)[share(length, rank, world.data_world_size)] for rank in (world.data_rank, 0))
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    passes = math.ceil(len(largest) / batch_size)
    return batches + [range(1)] * (passes - len(batches)), len(batches)


def _open(data: Dataset[Any], batches: Sequence[Sequence[int]], num_workers: int) -> DataLoader[Any]:
    return DataLoader(
        data,
        batch_sampler=batches,  # type: ignore[arg-type]  # any iterable of lists of indices
        num_workers=num_workers,
        generator=torch.Generator(),  # the loader's own, or it would draw from the training's
        worker_init_fn=outlive_notice,
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode without gradients and without a trace: modes, generators and shards are put back.

    Not in inference mode: FSDP keeps buffers of its first pass, and an inference tensor is of no use to a training.
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad(), generators_kept():
            yield module
    finally:
        reshard(module)
        for part in training:
            part.training = True


def _sum(task: Task, module: nn.Module, loader: DataLoader[Any], world: World, counted: int) -> dict[str, float]:
    totals: dict[str, Tensor] = {}
    for number, batch in enumerate(loader):
        values = task.metrics(module, to_device(batch, world.device))
        _check(task, values)
        for name, value in values.items():
            total = value.detach().sum(dtype=torch.float64)
            if number >= counted:
                total = torch.zeros_like(total)
            totals[name] = totals[name] + total if name in totals else total
    return {name: float(total) for name, total in totals.items()}


def _check(task: Task, values: dict[str, Tensor]) -> None:
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise BadTask(
            f"{type(task).__name__}.metrics() must return one value per sample, shape [n]; it returned {shapes}"
        )
