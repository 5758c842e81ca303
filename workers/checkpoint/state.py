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
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ...storage.digest import RANK_PREFIX
from ..errors import NotCaptured
from . import rng
from .dtypes import NAMES
from .optimizers import named_state
from .plan import TensorSpec
from .tree import Tensors, encode


class Stateful(Protocol):
    """Anything with a state of its own: a scheduler, a scaler, an iterable loader, an EMA."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The live objects of a run. `shared` are stateful parts that are alike on all ranks, `per_rank` are not."""

    model: nn.Module
    optimizer: Optimizer | None = None
    shared: Mapping[str, Stateful] = field(default_factory=dict)
    per_rank: Mapping[str, Stateful] = field(default_factory=dict)


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
        return name in self.parameters or name.startswith("optimizer/state/")

    @property
    def is_on_gpu(self) -> bool:
        return any(tensor.is_cuda for tensor in self.tensors.values())

    def specs(self) -> list[TensorSpec]:
        """The global tensors, as planning needs them."""
        return [spec_of(name, tensor, rank_zero=name in self.rank_zero) for name, tensor in self.tensors.items()]


def capture(parts: Parts, progress: Mapping[str, Any], rank: int) -> Captured:
    """The state of all parts as it is now.

    Raises:
        NotCaptured: something cannot be expressed as tensors and JSON; the message names it.
    """
    tensors: Tensors = {}
    state: dict[str, Any] = {"progress": encode(dict(progress), "progress", tensors)}
    model = plain(parts.model)
    # A DDP replica's buffers (BatchNorm's statistics) differ between ranks, and rank 0's are the ones that DDP keeps.
    buffers = {f"model/{_clean(name)}" for name, _ in model.named_buffers()}
    state["model"] = encode(model_state(model), "model", tensors)
    names = parameter_names(model)
    if parts.optimizer is not None:
        state["optimizer"] = encode(named_state(parts.optimizer, names), "optimizer", tensors)
    for name, part in parts.shared.items():
        state[name] = encode(dict(part.state_dict()), name, tensors)
    own_tensors: Tensors = {}
    prefix = rank_name(rank)
    own = {"rng": rng.capture(), **{name: dict(part.state_dict()) for name, part in parts.per_rank.items()}}
    own_state = {prefix: encode(own, prefix, own_tensors)}
    parameters = frozenset(f"model/{name}" for name in names.values())
    return Captured(tensors, frozenset(buffers & tensors.keys()), state, own_tensors, own_state, parameters)


def rank_name(rank: int) -> str:
    """The name under which a rank's own state is kept."""
    return f"{RANK_PREFIX}{rank:05d}"


def plain(model: nn.Module) -> nn.Module:
    """The module that the user wrote, out of DDP and `torch.compile`."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            return model


def model_state(model: nn.Module) -> dict[str, Any]:
    """The model's state dict by the names the user gave, whatever `torch.compile` put in between."""
    return {_clean(name): value for name, value in model.state_dict().items()}


def parameter_names(model: nn.Module) -> dict[torch.Tensor, str]:
    """Each parameter's name."""
    return {parameter: _clean(name) for name, parameter in model.named_parameters()}


def spec_of(name: str, tensor: torch.Tensor, *, rank_zero: bool = False) -> TensorSpec:
    """Raises NotCaptured for a tensor that has no safetensors spelling."""
    if isinstance(tensor, DTensor):
        message = f"{name} is a DTensor; only replicated state (DDP, or a single process) can be saved so far"
        raise NotCaptured(message)
    if tensor.dtype not in NAMES or tensor.layout is not torch.strided or tensor.is_meta:
        message = f"{name} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}, which cannot be saved"
        raise NotCaptured(message)
    return TensorSpec(name, NAMES[tensor.dtype], tuple(tensor.shape), rank_zero)


def _clean(name: str) -> str:
    return name.replace("_orig_mod.", "")
