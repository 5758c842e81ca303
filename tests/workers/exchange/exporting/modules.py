"""Models that exports are made of: tied, with masks, with code that needs values; and makers that make none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Tied(nn.Module):
    """The weights of the first layer are the last one's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Embedding(7, 5)
        self.outer = nn.Linear(5, 7, bias=False)
        self.outer.weight = self.inner.weight

    def forward(self, words: Tensor) -> Any:
        return self.outer(self.inner(words))


class Masked(nn.Module):
    """A buffer that no state dict holds, and a tensor that is none of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mask", torch.arange(4.0), persistent=False)
        self.scale = torch.full((4,), 3.0)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x) * self.mask * self.scale


class Valued(nn.Module):
    """Its code looks at values while it is made."""

    def __init__(self) -> None:
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.5, 3)]
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Dropout(rate)) for rate in rates))

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)


class Drawn(nn.Module):
    """Random projections that are never trained, and in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.projection = torch.randn(4, 4)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x @ self.projection)


class Stateful(nn.Module):
    """Keeps in its state dict what is no tensor."""

    def __init__(self, seen: int = 0) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.seen = seen

    def get_extra_state(self) -> dict[str, int]:
        return {"seen": self.seen}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)


class Unpicklable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.act: Callable[[Any], Any] = lambda x: x

    def forward(self, x: Tensor) -> Any:
        return self.act(self.layer(x))


def deep(layers: int = 16) -> nn.Sequential:
    """A layer takes 4 MiB, three times with its moments: 64 MiB of weights, 192 MiB in all."""
    return nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(layers)))


def shallow() -> nn.Sequential:
    return deep(1)


def half() -> nn.Module:
    return nn.Linear(4, 8, dtype=torch.bfloat16)


def text() -> Any:
    return "no module"


def broken() -> nn.Module:
    message = "a bug of the user's"
    raise ArithmeticError(message)
