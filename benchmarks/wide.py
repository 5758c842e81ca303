"""A model of equal layers and a run that has saved it, for what is measured by its size."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

_LAYER_BYTES: Final = 64 << 20
_SMALL_LAYER_BYTES: Final = 1 << 20
_ITEM: Final = 4


def shape(total_bytes: int) -> tuple[int, int]:
    """How many layers, and how wide, take so many bytes three times over: with Adam's moments."""
    layer = _LAYER_BYTES if total_bytes >= 12 * _LAYER_BYTES else _SMALL_LAYER_BYTES
    return max(1, total_bytes // (3 * layer)), int((layer / _ITEM) ** 0.5)


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """`wide_10_4096` makes ten layers of 4096: a command is given a name, and no arguments."""
    kind, _, numbers = name.partition("_")
    if kind != "wide" or "_" not in numbers:
        raise AttributeError(name)
    layers, width = map(int, numbers.split("_"))
    return lambda: make(layers, width)


def make(layers: int, width: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))


def save(url: str, total_bytes: int) -> None:
    """A run of one step, with an optimizer that has a state."""
    from relight.workers.checkpoint.checkpointer import Checkpointer  # What makes the model has no need of it.
    from relight.workers.signals import StopFlag

    model = make(*shape(total_bytes))
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        optimizer.state[parameter] = _moments(parameter)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "stop": StopFlag()}
    checkpointer = Checkpointer(url, **parts)
    checkpointer.restore()
    checkpointer.step(loss=1.0)
    checkpointer.finish()


def _moments(parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    """As after a first step, which would need gradients as large again."""
    return {
        "step": torch.tensor(1.0),
        "exp_avg": torch.rand_like(parameter),
        "exp_avg_sq": torch.rand_like(parameter),
    }


if __name__ == "__main__":
    save(sys.argv[1], int(sys.argv[2]))
