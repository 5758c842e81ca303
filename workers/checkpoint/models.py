"""Which of a model's tensors may be written in place, without `load_state_dict` coming to a different result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from .placing import Placing, can_hold
from .state import model_state

_PLAIN_LOADERS = (
    nn.Module._load_from_state_dict,  # noqa: SLF001 -- what a module overrides when it loads in its own way
    _NormBase._load_from_state_dict,  # noqa: SLF001 -- differs only for state dicts that lack what ours have
    _InstanceNorm._load_from_state_dict,  # noqa: SLF001 -- likewise
)


def in_place(model: nn.Module, saved: Mapping[str, Any], placing: Placing) -> dict[str, torch.Tensor] | None:
    """The live tensor for each name under `saved` (the encoded model state), to be filled; None when it must be loaded.

    `load_state_dict` does nothing but copy into parameters and buffers unless a module loads in its own way, has hooks
    for it or state besides them, or one of them is not a plain tensor of the saved shape and dtype.
    """
    if not all(map(_loads_plainly, model.modules())):
        return None
    live = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    own_names = dict(zip(model_state(model), model.state_dict(), strict=True))
    targets = {}
    for name, node in saved.items():
        tensor = live.get(own_names.get(name, ""))
        place = f"model/{name}"
        if tensor is None or node != {"$tensor": place} or not can_hold(tensor, placing.piece_of(place)):
            return None
        targets[place] = tensor
    return targets if len(targets) == len(own_names) else None


def _loads_plainly(module: nn.Module) -> bool:
    return (
        _function(module._load_from_state_dict) in _PLAIN_LOADERS  # noqa: SLF001 -- see above
        and _function(module.load_state_dict) is nn.Module.load_state_dict
        and not module._load_state_dict_pre_hooks  # noqa: SLF001 -- torch has no other way to ask
        and not module._load_state_dict_post_hooks  # noqa: SLF001 -- likewise
    )


def _function(method: object) -> object:
    """What a class defines; anything else (an attribute of the one module) is no function of ours to know."""
    return getattr(method, "__func__", None)
