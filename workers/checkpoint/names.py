"""The module that the user wrote, and the names that the user gave, whatever wraps them."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
"""`torch.compile`'s, and activation checkpointing's."""


def plain(model: nn.Module) -> nn.Module:
    """The module that the user wrote, out of DDP and `torch.compile`."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            return model


def clean(name: str) -> str:
    """Without what wrappers put into names."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
