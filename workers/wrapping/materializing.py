"""Initial weights for a model on the meta device: made one module at a time, of which each rank keeps its own part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..checkpoint.geometry import held, local_part
from ..errors import BadTask

Initialize = Callable[[str, nn.Module], None]
"""Sets the values of one module's own parameters and buffers; the first argument is the module's name."""


@torch.no_grad()
def materialize(model: nn.Module, device: torch.device, initialize: Initialize) -> None:
    """Memory for this rank's part of `model`, with values.

    `initialize` is given every module that has parameters or buffers of its own, whole and on `device`, on all ranks
    alike. So with all ranks' generators alike the weights do not depend on how many ranks there are, nor on how they
    share the model; and no more than one module is whole at a time.

    Raises:
        BadTask: `initialize` has left values out.
    """
    model.to_empty(device=device)
    for name, module in model.named_modules():
        own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        if own:
            _fill(module, name, own, initialize)


def _fill(module: nn.Module, name: str, own: dict[str, Tensor], initialize: Initialize) -> None:
    for key, tensor in own.items():
        setattr(module, key, _whole(tensor))
    initialize(name, module)
    values = {key: getattr(module, key) for key in own}
    for key, tensor in own.items():
        setattr(module, key, tensor)
        _keep(tensor, values[key], f"{name}.{key}" if name else key)


def _whole(tensor: Tensor) -> Tensor:
    """Not a number where that can be said: what stays so was forgotten."""
    fill = torch.nan if tensor.dtype.is_floating_point else 0
    whole = torch.full(tensor.shape, fill, dtype=tensor.dtype, device=local_part(tensor).device)
    return nn.Parameter(whole, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else whole


def _keep(tensor: Tensor, values: Tensor, name: str) -> None:
    if values.dtype.is_floating_point and bool(values.isnan().any()):
        raise BadTask(
            f"parallel.meta: {name} was given no values. Set them in its module's reset_parameters(), or override the "
            f"task's initialize(); or set parallel.meta=false"
        )
    here = held(tensor, name).box.slices if isinstance(tensor, DTensor) else ()
    local_part(tensor).copy_(values[here])
