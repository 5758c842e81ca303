"""What the ranks of `test_ranks.py` do together; every function here runs on each of them."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset, TensorDataset

from relight.workers.agreement import Agreement, Votes
from relight.workers.errors import BadTask
from relight.workers.evaluate import evaluate
from relight.workers.parallel import World, settle_buckets, sync_buffers, wrap
from relight.workers.sampler import GlobalBatchSampler
from relight.workers.seeding import seed_everything

BEFORE, AFTER = 2, 2


def all_scenes(world: World) -> dict[str, Any]:
    """One world for all of them: starting the processes takes longer than the scenes."""
    scenes = [repeating, stock, settling, alone_and_together, buffers, voting, measuring, refusals, seeds]
    return {scene.__name__: scene(world) for scene in scenes}


# --- a restart ---


def network() -> nn.Module:
    """More than a megabyte of parameters, so that DDP cuts them into more than one bucket."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 128, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )


def repeating(world: World) -> dict[str, list[str]]:
    return _interrupted(world, lambda model: wrap(model, world))


def stock(world: World) -> dict[str, list[str]]:
    return _interrupted(world, DistributedDataParallel)


def _interrupted(world: World, wrapping: Any) -> dict[str, list[str]]:
    """The weights after each step: of a run that goes on, and of one that starts again from its middle."""
    model = network()
    ddp, optimizer = wrapping(model), _optimizer(model)
    _train(ddp, optimizer, world, range(BEFORE))
    sync_buffers(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    momenta = {name: optimizer.state[value]["momentum_buffer"].clone() for name, value in model.named_parameters()}
    undisturbed = _train(ddp, optimizer, world, range(BEFORE, BEFORE + AFTER))

    model = network()
    ddp, optimizer = wrapping(model), _optimizer(model)
    model.load_state_dict(weights)
    for name, value in model.named_parameters():
        optimizer.state[value]["momentum_buffer"] = momenta[name]
    return {"undisturbed": undisturbed, "restarted": _train(ddp, optimizer, world, range(BEFORE, BEFORE + AFTER))}


def _optimizer(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def _train(ddp: nn.Module, optimizer: torch.optim.Optimizer, world: World, steps: range) -> list[str]:
    digests = []
    for step in steps:
        generator = torch.Generator().manual_seed(1000 * step + world.rank)
        images, labels = torch.randn(4, 3, 12, 12, generator=generator), torch.randint(10, (4,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(ddp(images), labels).backward()
        optimizer.step()
        digests.append(_digest(ddp))
    return digests


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def settling(world: World) -> dict[str, Any]:
    """What settling leaves behind in a model that has gradients already, and where there is nothing to settle."""
    model = network()
    ddp = DistributedDataParallel(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    before = _digest(model)
    settle_buckets(ddp)
    gradients = [parameter.grad for parameter in model.parameters()]
    kept = all(gradient is not None and bool((gradient == 3).all()) for gradient in gradients)
    embedding = DistributedDataParallel(nn.Embedding(10, 4, sparse=True))
    settle_buckets(embedding)
    unused = DistributedDataParallel(nn.Linear(2, 2), find_unused_parameters=True)
    settle_buckets(unused)
    unused(torch.ones(1, 2)).sum().backward()
    return {"gradients kept": kept, "weights kept": _digest(model) == before}


# --- a step ---


def alone_and_together(world: World) -> float:
    """The largest difference between the gradient of all ranks' shares and that of the whole batch at once."""
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(20, 8, generator=generator), torch.randn(20, 1, generator=generator)
    sampler = GlobalBatchSampler(20, batch_size=20, rank=world.rank, world_size=world.world_size, seed=0)
    torch.manual_seed(2)
    model = nn.Linear(8, 1)
    ddp = wrap(model, world)
    mine = next(iter(sampler))
    (nn.functional.mse_loss(ddp(inputs[mine]), targets[mine]) * sampler.weights(0)[0]).backward()
    together = [parameter.grad for parameter in model.parameters()]
    alone = torch.autograd.grad(nn.functional.mse_loss(model(inputs), targets), list(model.parameters()))
    return max(float((one - other).abs().max()) for one, other in zip(together, alone, strict=True) if one is not None)


def buffers(world: World) -> dict[str, Any]:
    model = nn.BatchNorm1d(2)
    model.running_mean = torch.full((2,), float(world.rank + 5))
    model.num_batches_tracked = torch.tensor(world.rank + 7)
    sync_buffers(model)
    return {"mean": model.running_mean.tolist(), "batches": int(model.num_batches_tracked)}


def voting(world: World) -> list[Any]:
    """Three rounds, one step apart; in the second one a single rank has something to say."""
    agreement = Agreement(world.control)
    last = world.rank == world.world_size - 1
    heard = [agreement.read()]
    for votes in (Votes(), Votes(stop=last, committed_step=world.rank), Votes(save_due=True, failed_step=4)):
        agreement.start(votes)
        heard.append(agreement.read())
    heard.append(agreement.agree(Votes(busy=world.rank == 0)))
    return [repr(votes) for votes in heard]


def seeds(world: World) -> float:
    seed_everything(1, world.rank)
    return random.random() + float(torch.rand(()))


# --- evaluation ---


class Squares:
    """As much of a Task as an evaluation needs."""

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        (values,) = batch
        return {"mean": model(values)[:, 0], "large": (values[:, 0] > 3).float()}


class Wrong:
    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        return {"mean": batch[0].mean(), "rows": batch[0][:, 0]}


class Drawing(nn.Module):
    """Draws and drops as it goes, to be caught if evaluation mode or the generators leak."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.register_buffer("offset", torch.zeros(1))

    def forward(self, values: Tensor) -> Tensor:
        torch.rand(1)
        out: Tensor = self.frozen(self.dropout(values)) + self.get_buffer("offset")
        return out


def measuring(world: World) -> dict[str, Any]:
    model = Drawing()
    model.get_buffer("offset").fill_(0 if world.rank == 0 else 100)
    torch.manual_seed(world.rank)
    expected_draw = float(torch.rand(1))
    torch.manual_seed(world.rank)
    return {
        "seven": _evaluate(model, _values(7), world),
        "one": _evaluate(model, _values(1), world),
        "helped": _evaluate(model, _values(7), world, num_workers=1),
        "modes": [model.training, model.dropout.training, model.frozen.training],
        "draw kept": float(torch.rand(1)) == expected_draw,
    }


def refusals(world: World) -> dict[str, str]:
    answer = {}
    for name, task, length in (("wrong", Wrong(), 7), ("empty", Squares(), 0)):
        try:
            _evaluate(Drawing(), _values(length), world, task=task)
        except BadTask as error:
            answer[name] = str(error)
    return answer


def _values(length: int) -> Dataset[Any]:
    return TensorDataset(torch.arange(1, length + 1, dtype=torch.float32).reshape(-1, 1))


def _evaluate(model: nn.Module, data: Dataset[Any], world: World, *, task: Any = None, num_workers: int = 0) -> Any:
    task = task or Squares()
    return evaluate(task, model, data, world, batch_size=2, num_workers=num_workers)
