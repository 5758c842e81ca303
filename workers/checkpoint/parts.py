"""From the arguments of a `Checkpointer` to the parts that are captured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader, IterableDataset

from ..errors import NotCaptured
from ..sampler import GlobalBatchSampler, sampler_of
from .positions import Position
from .reading_on import samplers_of
from .state import Parts, Stateful
from .wrapped import scaler_of, unwrapped_loader, unwrapped_model, unwrapped_optimizer

_One = TypeVar("_One")

_RESERVED = frozenset({"model", "optimizer", "progress", "data", "rng", "loader", "position", "imported"})


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
    if "scaler" not in given and (scaler := _scaler_beneath(optimizer)) is not None:
        given["scaler"] = scaler
    if taken := _RESERVED & given.keys():
        message = f"extra state may not be called {', '.join(sorted(taken))}: choose another name"
        raise NotCaptured(message)
    sampler = sampler_of(loader)
    if sampler is not None:
        given["data"] = DataOrder(sampler)
        _give_own_generator(unwrapped_loader(loader)[0])
    per_rank = {} if loader is None or sampler is not None else _own_position(loader)
    parts = Parts(
        model=_each(unwrapped_model, model),
        optimizer=None if optimizer is None else _each(unwrapped_optimizer, optimizer),
        shared=given,
        per_rank=per_rank,
    )
    _refuse_flat_parameters(parts)
    return parts, sampler


def _own_position(loader: Any) -> dict[str, Stateful]:
    """What a rank keeps of the position in its own loader."""
    inner, passes = unwrapped_loader(loader)
    if hasattr(inner, "state_dict") and hasattr(inner, "load_state_dict"):
        _give_own_generator(inner)
        return {"loader": loader if hasattr(loader, "state_dict") else inner}
    if not isinstance(inner, DataLoader) or isinstance(inner.dataset, IterableDataset):
        what = f"a {type(inner).__name__}{' of iterable data' if isinstance(inner, DataLoader) else ''}"
        message = (
            f"the position in {what} cannot be saved. Use a DataLoader of data that has indices, or a loader that has "
            "state_dict() and load_state_dict() (torchdata's StatefulDataLoader); or pass no loader and start epochs "
            "anew on resume"
        )
        raise NotCaptured(message)
    if any(isinstance(each, GlobalBatchSampler) for each in samplers_of(inner.batch_sampler)):
        message = (
            "a relight.GlobalBatchSampler gives each rank its share already, and here each share is shared out once "
            "more: leave this loader out of accelerator.prepare() or fabric.setup_dataloaders()"
        )
        raise NotCaptured(message)
    return {"position": Position(inner, passes)}


def _scaler_beneath(optimizer: Optimizer | Mapping[str, Optimizer] | None) -> Stateful | None:
    """Frameworks scale gradients with a scaler of their own, one for all optimizers."""
    given = optimizer.values() if isinstance(optimizer, Mapping) else [optimizer]
    return next((scaler for scaler in map(scaler_of, given) if scaler is not None), None)


def _each(change: Callable[[_One], _One], given: _One | Mapping[str, _One]) -> _One | Mapping[str, _One]:
    """`change` of the one that was given, or of each by its name."""
    if isinstance(given, Mapping):
        return {name: change(one) for name, one in given.items()}
    return change(given)


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
