"""The model's tensors as places to be filled: of a sharded one each rank fills its own box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _NormBase

from ....storage.boxes import Box
from ...errors import BadWeights
from ..geometry import held, like, local_part
from ..models import loads_plainly
from ..names import clean
from .comparing import Wanting
from .tensors import Described


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor goes: `local` is this rank's memory for the part `box` of it. `is_sharded`: others have others."""

    local: torch.Tensor
    box: Box
    is_sharded: bool


class Live:
    """What is to be filled of one or several models, by the names that their states are saved under."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        """`models` by what stands before their names; FSDP's parameters are sharded again by this."""
        self._models = models
        self._own_names: dict[str, tuple[str, str]] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        self._staged: dict[str, torch.Tensor] = {}
        for prefix, model in models.items():
            for own_name, value in model.state_dict(keep_vars=True).items():
                if isinstance(value, torch.Tensor):
                    name = prefix + clean(own_name)
                    self._tensors[name] = value
                    self._own_names[name] = (prefix, own_name)
        self._in_place = {prefix: set(map(id, _own_tensors(model))) for prefix, model in models.items()}

    @property
    def wanting(self) -> Wanting:
        first: dict[int, str] = {}
        tied = {name: first.setdefault(id(tensor), name) for name, tensor in self._tensors.items()}
        described = {name: Described(it.dtype, tuple(it.shape)) for name, it in self._tensors.items()}
        return Wanting(described, tied, frozenset(self._counters()) & described.keys())

    def place(self, name: str) -> Place:
        """Raises BadWeights where there is no memory yet."""
        tensor = self._tensors[name]
        if tensor.is_meta:
            raise BadWeights(
                f"init_from: {name} is on the meta device and has no memory to load into: let Checkpointer.restore() "
                "make it (init_from is an argument of Checkpointer, too), or call to_empty() before"
            )
        if id(tensor) not in self._in_place[self._own_names[name][0]]:
            tensor = self._staged.setdefault(name, _new_like(tensor))
        if isinstance(tensor, DTensor):
            return Place(local_part(tensor), held(tensor, name).box, is_sharded=True)
        return Place(local_part(tensor), Box.whole(tuple(tensor.shape)), is_sharded=False)

    def settle(self) -> None:
        """Hand over what could not be filled where it is."""
        for prefix, model in self._models.items():
            loaded = {
                self._own_names[name][1]: it for name, it in self._staged.items() if self._own_names[name][0] == prefix
            }
            if loaded:
                model.load_state_dict(loaded, strict=False)

    def _counters(self) -> Iterator[str]:
        """BatchNorm's count of batches, which older files lack and torch does not ask for either."""
        for prefix, model in self._models.items():
            for name, module in model.named_modules():
                if isinstance(module, _NormBase):
                    yield prefix + clean(f"{name}.num_batches_tracked")


def _own_tensors(model: nn.Module) -> list[torch.Tensor]:
    """What may be filled where it is; nothing where a module of the model has its own way to load."""
    if not all(map(loads_plainly, model.modules())):
        return []
    return [*model.parameters(), *model.buffers()]


def _new_like(tensor: torch.Tensor) -> torch.Tensor:
    return like(tensor, tensor.dtype) if isinstance(tensor, DTensor) else torch.empty_like(tensor.detach())
