"""Models at a restore: which of their tensors may be written in place, and memory for those that have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from ...storage.shards import Piece
from ..errors import NotCaptured
from .names import clean
from .placing import Placing, Target, can_hold, tensor_like
from .state import model_state
from .tree import decode

Loading = Callable[[], None]

_PLAIN_LOADERS = (
    nn.Module._load_from_state_dict,  # noqa: SLF001 -- what a module overrides when it loads in its own way
    _NormBase._load_from_state_dict,  # noqa: SLF001 -- differs only for state dicts that lack what ours have
    _InstanceNorm._load_from_state_dict,  # noqa: SLF001 -- likewise
)


def fill_model(model: nn.Module, prefix: str, saved: Mapping[str, Any], placing: Placing, *, is_new: bool) -> Loading:
    """Want a model's tensors, where they are if that is all that `load_state_dict` would do.

    `saved` is the encoded state of all models, `prefix` stands before the names of this one; `is_new`: what is in it is
    nobody's. What is returned is called when all is there.
    """
    nodes = {name.removeprefix(prefix): node for name, node in saved.items() if name.startswith(prefix)}
    targets = in_place(model, nodes, placing, prefix)
    if targets is not None:
        for name, tensor in targets.items():
            placing.fill(Target(tensor, is_new), name)
        return _nothing
    live = model_state(model)

    def make(name: str, piece: Piece) -> Target:
        return tensor_like(live.get(name.removeprefix(f"model/{prefix}")), piece)

    loaded: dict[str, Any] = decode(nodes, placing.targets(make))
    # By the module's own names, which wrappers may have lengthened; strict, as everything was compared before.
    own_names = dict(zip(live, model.state_dict(), strict=True))

    def load() -> None:
        model.load_state_dict({own_names[name]: value for name, value in loaded.items()}, strict=True)

    return load


def in_place(
    model: nn.Module, saved: Mapping[str, Any], placing: Placing, prefix: str = ""
) -> dict[str, torch.Tensor] | None:
    """The live tensor for each name under `saved` (the encoded model state), to be filled; None when it must be loaded.

    `load_state_dict` does nothing but copy into parameters and buffers unless a module loads in its own way, has hooks
    for it or state besides them, or one of them is not a tensor of the saved shape and dtype.
    """
    if not all(map(loads_plainly, model.modules())):
        return None
    own_names = dict(zip(model_state(model), model.state_dict(), strict=True))  # FSDP's are sharded again by this.
    live = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    live = {clean(name): tensor for name, tensor in live.items()}
    targets = {}
    for name, node in saved.items():
        tensor = live.get(name)
        place = f"model/{prefix}{name}"
        if tensor is None or node != {"$tensor": place} or not can_hold(tensor, placing.piece_of(place)):
            return None
        targets[place] = tensor
    return targets if len(targets) == len(own_names) else None


def materialize(models: Mapping[str, nn.Module], initialize: Callable[[], object] | None) -> Loading | None:
    """Give models that are on the meta device memory, and first values; None where there were none.

    What is returned gives them their first values again: for when a checkpoint was begun with and turned out damaged.
    The values come from `initialize`, or else from each module's own `reset_parameters`. They count where there is no
    checkpoint to go on from, and for buffers that are in none.

    Raises:
        NotCaptured: nobody would fill a module's tensors.
    """
    blank = [model for model in models.values() if any(_has_meta(part) for part in model.modules())]
    if not blank:
        return None
    lazy = [(name, part) for model in blank for name, part in model.named_modules() if _has_meta(part)]
    unfilled = [name or type(part).__name__ for name, part in lazy if not hasattr(part, "reset_parameters")]
    if initialize is None and unfilled:
        message = (
            f"{', '.join(unfilled[:5])} {'are' if len(unfilled) > 1 else 'is'} on the meta device and cannot fill "
            "itself (no reset_parameters()): give Checkpointer(initialize=...), which fills the model's tensors"
        )
        raise NotCaptured(message)
    # Swapped, not replaced: whoever has a parameter already, an optimizer say, has the one with memory then.
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        for model in blank:
            model._apply(partial(_with_memory, _device_of(model)))  # noqa: SLF001 -- as Module.to_empty does, which empties buffers that have content, too
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)

    @torch.no_grad()
    def fill() -> None:
        for fill_one in [initialize] if initialize is not None else [part.reset_parameters for _, part in lazy]:
            fill_one()

    fill()
    return fill


def _with_memory(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device=device) if tensor.is_meta else tensor


def _has_meta(part: nn.Module) -> bool:
    own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    return any(tensor.is_meta for tensor in own)


def _device_of(model: nn.Module) -> torch.device:
    """Where a model without memory is going to be: where its mesh is, or where torch makes tensors now."""
    for tensor in model.parameters():
        if isinstance(tensor, DTensor):
            kind = tensor.device_mesh.device_type
            return (
                torch.device(kind, torch.get_device_module(kind).current_device())
                if kind != "cpu"
                else torch.device(kind)
            )
    return torch.get_default_device()


def loads_plainly(module: nn.Module) -> bool:
    return (
        _function(module._load_from_state_dict) in _PLAIN_LOADERS  # noqa: SLF001 -- see above
        and _function(module.load_state_dict) is nn.Module.load_state_dict
        and all(map(_only_shards, module._load_state_dict_pre_hooks.values()))  # noqa: SLF001 -- torch has no other way to ask
        and all(map(_only_shards, module._load_state_dict_post_hooks.values()))  # noqa: SLF001 -- likewise
    )


def _only_shards(hook: object) -> bool:
    """FSDP's own hooks do nothing but shard the parameters again, as a state dict does, and look for other memory."""
    inner = getattr(hook, "hook", hook)
    return str(getattr(inner, "__module__", "")).startswith("torch.distributed.fsdp._fully_shard")


def _function(method: object) -> object:
    """What a class defines; anything else (an attribute of the one module) is no function of ours to know."""
    return getattr(method, "__func__", None)


def _nothing() -> None:
    """All of it is where it belongs."""
