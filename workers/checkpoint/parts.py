"""From the arguments of a `Checkpointer` to the parts that are captured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ..errors import NotCaptured
from ..sampler import GlobalBatchSampler, sampler_of
from .state import Parts, Stateful

_RESERVED = frozenset({"model", "optimizer", "progress", "data", "rng", "loader"})


class DataOrder:
    """What the order of the samples depends on: a position means nothing in another order."""

    def __init__(self, sampler: GlobalBatchSampler) -> None:
        self._facts: dict[str, Any] = dict(sampler.facts())

    def state_dict(self) -> dict[str, Any]:
        return dict(self._facts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load: `mismatches` has found them equal."""

    def mismatches(self, saved: Mapping[str, Any]) -> list[str]:
        # Before there were others, an order was shuffled or not.
        saved = {"order": "shuffled" if saved.get("shuffle", True) else "sequential", **saved}
        return [
            f"data: {fact} is {saved.get(fact)} in the checkpoint, {value} here"
            for fact, value in self._facts.items()
            if saved.get(fact) != value
        ]


def gather_parts(
    model: nn.Module | Mapping[str, nn.Module],
    optimizer: Optimizer | Mapping[str, Optimizer] | None,
    shared: Mapping[str, Stateful | None],
    loader: Any,
) -> tuple[Parts, GlobalBatchSampler | None]:
    """The parts, and the sampler whose position is the run's position in the data.

    Raises:
        NotCaptured: the loader's position cannot be known, or a name is taken.
    """
    given = {name: part for name, part in shared.items() if part is not None}
    if taken := _RESERVED & given.keys():
        message = f"extra state may not be called {', '.join(sorted(taken))}: choose another name"
        raise NotCaptured(message)
    sampler = sampler_of(loader)
    if sampler is not None:
        given["data"] = DataOrder(sampler)
    _give_own_generator(loader)
    per_rank: dict[str, Stateful] = {}
    if loader is not None and sampler is None:
        if not (hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")):
            message = (
                f"the position in a {type(loader).__name__} cannot be saved. Give its DataLoader a "
                "relight.GlobalBatchSampler as batch_sampler, or use a loader that has state_dict() and "
                "load_state_dict() (torchdata's StatefulDataLoader); or pass no loader and start epochs anew on resume"
            )
            raise NotCaptured(message)
        per_rank["loader"] = loader
    parts = Parts(model=model, optimizer=optimizer, shared=given, per_rank=per_rank)
    _refuse_flat_parameters(parts)
    return parts, sampler


def _refuse_flat_parameters(parts: Parts) -> None:
    for prefix, model in parts.models.items():
        for name, part in model.named_modules():
            if isinstance(part, FullyShardedDataParallel):
                where = f"{prefix}{name}".rstrip("/") or "the model"
                message = (
                    f"{where} is wrapped in FullyShardedDataParallel, which flattens its parameters: use "
                    "torch.distributed.fsdp.fully_shard, its successor"
                )
                raise NotCaptured(message)


def _give_own_generator(loader: Any) -> None:
    """Keep a DataLoader from drawing from torch's global generator, as it does each time it is iterated.

    After a resume in mid-epoch it is iterated once more than in the undisturbed run, and dropout would differ.
    """
    if isinstance(loader, DataLoader) and loader.generator is None:
        loader.generator = torch.Generator().manual_seed(torch.initial_seed())
