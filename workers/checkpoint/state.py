"""What a run consists of, as named tensors and JSON, and back.

Global state is the same on every rank and is saved once; a rank's own state (its RNG, the position of its own loader)
is saved under the rank's name and never merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ...storage.whole import RANK_PREFIX
from ..errors import NotCaptured
from . import rng
from .dtypes import NAMES
from .geometry import held, is_sharded
from .names import clean, plain
from .optimizers import named_state
from .plan import Held, TensorSpec
from .tree import Tensors, encode


class Stateful(Protocol):
    """Anything with a state of its own: a scheduler, a scaler, an iterable loader, an EMA."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The live objects of a run. `shared` are stateful parts that are alike on all ranks, `per_rank` are not.

    Several models or optimizers (a generator and a discriminator) are given by name.
    """

    model: nn.Module | Mapping[str, nn.Module]
    optimizer: Optimizer | Mapping[str, Optimizer] | None = None
    shared: Mapping[str, Stateful] = field(default_factory=dict)
    per_rank: Mapping[str, Stateful] = field(default_factory=dict)

    @property
    def wrapped(self) -> list[nn.Module]:
        """The models as they were given."""
        return [self.model] if isinstance(self.model, nn.Module) else list(self.model.values())

    @property
    def models(self) -> dict[str, nn.Module]:
        """The modules that the user wrote, by what stands before the names of their tensors."""
        if isinstance(self.model, nn.Module):
            return {"": plain(self.model)}
        return {f"{name}/": plain(model) for name, model in self.model.items()}

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """By the name under which each is saved."""
        if self.optimizer is None:
            return {}
        if isinstance(self.optimizer, Optimizer):
            return {"optimizer": self.optimizer}
        return {f"optimizer/{name}": optimizer for name, optimizer in self.optimizer.items()}

    def model_state(self) -> dict[str, Any]:
        """The state dicts of all models, by name."""
        return {prefix + name: value for prefix, it in self.models.items() for name, value in model_state(it).items()}

    def parameter_names(self) -> dict[torch.Tensor, str]:
        """Each parameter's name; of tied ones the first."""
        return {
            parameter: prefix + clean(name)
            for prefix, it in self.models.items()
            for name, parameter in it.named_parameters()
        }

    def buffer_names(self) -> set[str]:
        """What every buffer would be saved as, and those of modules among the shared parts (an average)."""
        own = {f"model/{prefix}{clean(name)}" for prefix, it in self.models.items() for name, _ in it.named_buffers()}
        modules = {name: part for name, part in self.shared.items() if isinstance(part, nn.Module)}
        return own | {f"{name}/{buffer}" for name, part in modules.items() for buffer, _ in part.named_buffers()}


@dataclass(frozen=True, slots=True)
class Captured:
    """References to the live tensors (nothing is copied yet) and the JSON that goes with them, of one rank.

    `tensors` and `state` are global, `own_tensors` and `own_state` are this rank's, already under its name.
    """

    tensors: Tensors
    rank_zero: frozenset[str]
    state: dict[str, Any]
    own_tensors: Tensors
    own_state: dict[str, Any]
    parameters: frozenset[str]

    def waits_for_step(self, name: str) -> bool:
        """Whether nothing but `optimizer.step()` changes this tensor: not so of buffers, which a forward updates."""
        return name in self.parameters or (name.startswith("optimizer/") and "/state/" in name)

    @property
    def is_on_gpu(self) -> bool:
        return any(tensor.is_cuda for tensor in self.tensors.values())

    def specs(self) -> list[TensorSpec]:
        """The global tensors, as planning needs them."""
        return [spec_of(name, tensor, rank_zero=name in self.rank_zero) for name, tensor in self.tensors.items()]


def capture(parts: Parts, progress: Mapping[str, Any], rank: int, recipe: Mapping[str, Any] | None = None) -> Captured:
    """The state of all parts as it is now.

    `recipe`: how the model is made, kept among rank 0's own state, where it is no part of what is compared or loaded.

    Raises:
        NotCaptured: something cannot be expressed as tensors and JSON; the message names it.
    """
    tensors: Tensors = {}
    state: dict[str, Any] = {"progress": encode(dict(progress), "progress", tensors)}
    # First: FSDP shards its parameters again for a state dict, and their names are looked up when they are.
    state["model"] = encode(parts.model_state(), "model", tensors)
    names = parts.parameter_names()
    for key, optimizer in parts.optimizers.items():
        state[key] = encode(named_state(optimizer, names), key, tensors)
        _refuse_foreign_shards(tensors, key, names)
    for name, part in parts.shared.items():
        state[name] = encode(dict(part.state_dict()), name, tensors)
    own_tensors: Tensors = {}
    prefix = rank_name(rank)
    own = {"rng": rng.capture(), **{name: dict(part.state_dict()) for name, part in parts.per_rank.items()}}
    if recipe and rank == 0:
        own["recipe"] = dict(recipe)
    own_state = {prefix: encode(own, prefix, own_tensors)}
    # A DDP replica's buffers (BatchNorm's statistics) differ between ranks, and rank 0's are the ones that DDP keeps.
    buffers = parts.buffer_names() & tensors.keys()
    parameters = frozenset(f"model/{name}" for name in names.values())
    return Captured(tensors, frozenset(buffers), state, own_tensors, own_state, parameters)


def rank_name(rank: int) -> str:
    """The name under which a rank's own state is kept."""
    return f"{RANK_PREFIX}{rank:05d}"


def model_state(model: nn.Module) -> dict[str, Any]:
    """The model's state dict by the names the user gave, whatever `torch.compile` put in between."""
    return {clean(name): value for name, value in model.state_dict().items()}


def spec_of(name: str, tensor: torch.Tensor, *, rank_zero: bool = False) -> TensorSpec:
    """Raises NotCaptured for a tensor that has no safetensors spelling."""
    if isinstance(tensor, DTensor):
        return _spec(name, tensor.to_local(), tuple(tensor.shape), held=held(tensor, name))
    if type(tensor) not in (torch.Tensor, nn.Parameter):
        message = (
            f"{name} is a {type(tensor).__module__}.{type(tensor).__qualname__}, a kind of tensor whose content is not "
            "known. Turn it into plain tensors in state_dict()"
        )
        raise NotCaptured(message)
    return _spec(name, tensor, tuple(tensor.shape), rank_zero=rank_zero)


def _spec(
    name: str, local: torch.Tensor, shape: tuple[int, ...], *, rank_zero: bool = False, held: Held | None = None
) -> TensorSpec:
    if local.dtype not in NAMES or local.layout is not torch.strided or local.is_meta:
        message = f"{name} is a {local.layout} tensor of {local.dtype} on {local.device}, which cannot be saved"
        raise NotCaptured(message)
    return TensorSpec(name, NAMES[local.dtype], shape, rank_zero, held)


def _refuse_foreign_shards(tensors: Tensors, key: str, names: Mapping[torch.Tensor, str]) -> None:
    """An optimizer's new tensors are sharded as their parameters are: nothing else says how, at a restore."""
    shapes = {name: parameter.shape for parameter, name in names.items()}
    for place, tensor in tensors.items():
        if is_sharded(tensor) and place.startswith(f"{key}/state/"):
            name = place.removeprefix(f"{key}/state/").rpartition("/")[0]
            if shapes.get(name) != tensor.shape:
                message = (
                    f"{place} has shape {list(tensor.shape)} and is sharded, unlike its parameter: it could not be "
                    "brought back. Use an optimizer whose state has its parameters' shapes, or does not shard it"
                )
                raise NotCaptured(message)
