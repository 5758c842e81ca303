"""Training in bfloat16: weights, gradients' sums and optimizer stay float32, what is computed is not."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils._pytree import tree_map_only

Precision = Literal["fp32", "bf16"]


def policy(precision: Precision, *, outermost: bool) -> MixedPrecisionPolicy:
    """How FSDP computes: with parameters that are gathered in this type, summing gradients in float32.

    What the `outermost` module answers is float32: a loss of it is as good as ever.
    """
    if precision == "fp32":
        return MixedPrecisionPolicy()
    output = torch.float32 if outermost else None
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=output)


def autocast(model: nn.Module, device: torch.device) -> None:
    """Let `model` compute what it can in bfloat16, and answer in float32, as it does under FSDP."""
    forward = model.forward

    def in_bfloat16(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            out = forward(*args, **kwargs)
        return tree_map_only(torch.Tensor, _widened, out)

    model.forward = in_bfloat16


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype is torch.bfloat16 else tensor
