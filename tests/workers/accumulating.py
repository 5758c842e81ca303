"""What the ranks of test_accumulation.py do: an epoch in steps of several micro-batches, however a model is wrapped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from relight.workers.accumulation import steps
from relight.workers.parallel import World, wrap
from relight.workers.sampler import GlobalBatchSampler

LENGTH, BATCH = 31, 11  # Steps of 11, 11 and 9 samples, none of which divides evenly over four ranks.


def network() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(LENGTH, 8, generator=generator), torch.randn(LENGTH, 1, generator=generator)


def by_ddp(world: World) -> nn.Module:
    return wrap(network(), world)


def by_compiled_ddp(world: World) -> nn.Module:
    """As `torch.compile` wraps a model, without the time that compiling takes."""
    outer = nn.Module()
    outer._orig_mod = ddp = wrap(network(), world)
    outer.forward = ddp.forward
    return outer


def by_fsdp(world: World) -> nn.Module:
    model = network()
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    return model


def by_hsdp(world: World) -> nn.Module:
    model = network()
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")))
    return model


COUNTS = tuple(map(int, torch.__version__.split(".")[:2])) > (2, 10)
"""The counter of torch 2.10 fails in a model that has hooks."""

WRAPPERS: list[Callable[[World], nn.Module]] = [by_ddp, by_compiled_ddp, by_fsdp, by_hsdp]


def accumulating(world: World) -> dict[str, Any]:
    """By wrapper and largest micro-batch: how far off the gradients and losses are, and what was sent."""
    return {
        f"{wrapped.__name__} {largest}": _epoch(wrapped(world), world, largest)
        for wrapped in WRAPPERS
        for largest in (None, 2, 1)
    }


def _epoch(model: nn.Module, world: World, largest: int | None) -> dict[str, Any]:
    inputs, targets = data()
    sampler = GlobalBatchSampler(
        LENGTH, batch_size=BATCH, rank=world.rank, world_size=world.world_size, seed=0, max_per_rank=largest
    )
    loader = DataLoader(TensorDataset(torch.arange(LENGTH)), batch_sampler=sampler)
    order = sampler.order.indices(LENGTH, 0, 0)
    off, losses_off, sent, sizes, samples = 0.0, 0.0, [], [], 0
    for step in steps(loader, model):
        whole = order[samples : samples + step.samples]
        samples += step.samples
        model.zero_grad()
        sending = CommDebugMode()
        with sending if COUNTS else nullcontext():
            for (mine,) in step:
                sizes.append(len(mine))
                step.weighted(mse_loss(model(inputs[mine]), targets[mine])).backward()
        sent.append({op.__name__: count for op, count in sending.get_comm_counts().items()} if COUNTS else {})
        expected, loss = _alone(inputs[whole], targets[whole])
        off = max([off, *(_distance(one, other) for one, other in zip(model.parameters(), expected, strict=True))])
        losses_off = max(losses_off, abs(float(_mean(step.loss)) - loss))
    return {"off": off, "losses off": losses_off, "sent": sent, "sizes": sizes, "samples": samples}


def _alone(inputs: Tensor, targets: Tensor) -> tuple[list[Tensor], float]:
    """The gradients and the loss of the whole batch at once, on this rank alone."""
    model = network()
    loss = mse_loss(model(inputs), targets)
    loss.backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None], float(loss)


def _distance(parameter: nn.Parameter, expected: Tensor) -> float:
    gradient = parameter.grad
    assert gradient is not None
    whole = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
    return float((whole - expected).abs().max())


def _mean(loss: Tensor) -> Tensor:
    total = loss.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
