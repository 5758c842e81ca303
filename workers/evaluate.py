"""A task's metrics over the whole validation set: each sample once, on one rank, the same numbers on all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from .errors import BadTask
from .parallel import World, sync_buffers, to_device, unwrap
from .replay import generators_kept
from .sampler import share
from .signals import outlive_notice
from .task import Task


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
    mine = range(length)[share(length, world.rank, world.world_size)]
    # With fewer samples than ranks some have none. They look at the first one, for the names, and count it zero times.
    loader = _open(data, mine or range(1), batch_size, num_workers)
    sync_buffers(model)
    with _evaluating(unwrap(model)) as module:
        totals = _sum(task, module, loader, world)
    names = sorted(totals)
    summed = torch.tensor([totals[name] for name in names] + [float(len(mine))], dtype=torch.float64)
    if not mine:
        summed.zero_()
    if dist.is_initialized():
        dist.all_reduce(summed)
    *sums, count = summed.tolist()
    return {name: total / count for name, total in zip(names, sums, strict=True)}


def _open(data: Dataset[Any], indices: Sequence[int], batch_size: int, num_workers: int) -> DataLoader[Any]:
    return DataLoader(
        Subset(data, indices),
        batch_size=batch_size,
        num_workers=num_workers,
        generator=torch.Generator(),  # the loader's own, or it would draw from the training's
        worker_init_fn=outlive_notice,
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode without gradients and without a trace: modes and generators are put back."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.inference_mode(), generators_kept():
            yield module
    finally:
        for part in training:
            part.training = True


def _sum(task: Task, module: nn.Module, loader: DataLoader[Any], world: World) -> dict[str, float]:
    totals: dict[str, Tensor] = {}
    for batch in loader:
        values = task.metrics(module, to_device(batch, world.device))
        _check(task, values)
        for name, value in values.items():
            total = value.detach().sum(dtype=torch.float64)
            totals[name] = totals[name] + total if name in totals else total
    return {name: float(total) for name, total in totals.items()}


def _check(task: Task, values: dict[str, Tensor]) -> None:
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise BadTask(
            f"{type(task).__name__}.metrics() must return one value per sample, shape [n]; it returned {shapes}"
        )
