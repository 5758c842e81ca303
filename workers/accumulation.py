"""One optimizer step out of several micro-batches: the gradient of the whole global batch, on any number of ranks."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from .sampler import GlobalBatchSampler, sampler_of


class Step:
    """Iterating it gives this rank's micro-batches, once. Forward and backward of each belong into the loop's body."""

    def __init__(
        self, batches: Iterator[Any], weights: list[float], samples: int, models: tuple[nn.Module, ...]
    ) -> None:
        self.samples = samples
        """Of the global batch."""
        self._weights = weights
        self._weight = 0.0
        self._loss: torch.Tensor | None = None
        self._micro_batches = self._walk(batches, models)

    def __iter__(self) -> Iterator[Any]:
        return self._micro_batches

    def weighted(self, loss: torch.Tensor) -> torch.Tensor:
        """The mean loss over the samples of the micro-batch, times what it counts for: what to call `backward` of.

        So the gradient, added up by the backward passes and averaged by DDP or FSDP, is the mean over the global batch.
        """
        part = loss * self._weight
        self._loss = part.detach() if self._loss is None else self._loss + part.detach()
        return part

    @property
    def loss(self) -> torch.Tensor:
        """This rank's part of the step's loss: the mean of it over the ranks is the mean over the global batch."""
        if self._loss is None:
            message = "no loss of this step is known: call step.weighted(loss).backward() for each of its micro-batches"
            raise RuntimeError(message)
        return self._loss

    def _walk(self, batches: Iterator[Any], models: tuple[nn.Module, ...]) -> Generator[Any]:
        for number, weight in enumerate(self._weights, 1):
            batch = next(batches)
            self._weight = weight
            with summing(models, last=number == len(self._weights)):
                yield batch


def steps(loader: Iterable[Any], *models: nn.Module) -> Iterator[Step]:
    """The steps that are left of the epoch. `loader` has a GlobalBatchSampler; `models` are what DDP or FSDP wraps.

    for step in relight.steps(loader, model):
        optimizer.zero_grad()
        for x, y in step:
            step.weighted(mse_loss(model(x), y)).backward()
        optimizer.step()
        if checkpoint.step(loss=step.loss):
            ...

    """
    sampler = sampler_of(loader)
    if sampler is None:
        message = f"a {type(loader).__name__} has no relight.GlobalBatchSampler as batch_sampler: steps cannot be told"
        raise TypeError(message)
    sampler.in_steps = True
    return _steps(iter(loader), sampler, sampler.samples, models)


def _steps(
    batches: Iterator[Any], sampler: GlobalBatchSampler, samples: int, models: tuple[nn.Module, ...]
) -> Iterator[Step]:
    while size := sampler.span(samples):
        step = Step(batches, sampler.weights(samples), size, models)
        yield step
        for _ in step:  # What the body left over would become part of the next step.
            pass
        samples += size


def summing(models: Iterable[nn.Module], *, last: bool) -> AbstractContextManager[object]:
    """Forward and backward of a micro-batch. Gradients are summed over the ranks behind the last one of a step."""
    stack = ExitStack()
    for wrapped in models:
        model = getattr(wrapped, "_orig_mod", wrapped)  # torch.compile's
        if isinstance(model, DistributedDataParallel):
            stack.enter_context(nullcontext() if last else model.no_sync())
        elif isinstance(model, FSDPModule):
            # Only the sum over the replicas (HSDP) waits. Each rank's shard of the sum is made behind every backward:
            # not to do so saves time, but whole gradients would take up the memory that sharding saves.
            model.set_requires_all_reduce(last)
    return stack
