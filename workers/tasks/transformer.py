"""A GPT over bytes: the model alone, and how it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

BYTES: Final = 256
"""The whole vocabulary."""
_STD: Final = 0.02
_SLOWEST: Final = 10_000.0

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, `[time, half of a head's width]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`context` is the longest text, in bytes, that the model looks at."""

    context: int = 256
    layers: int = 6
    heads: int = 6
    width: int = 384
    dropout: float = 0.0


class Transformer(nn.Module):
    """Bytes `[batch, time]` in, scores of the byte that follows each of them `[batch, time, 256]` out."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(BYTES, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, BYTES, bias=False)
        self.head.weight = self.embedding.weight  # One tensor: a byte is read as it is written.
        for name, module in self.named_modules():
            initialize(name, module, shape)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        rotation = rotation_of(tokens.shape[1], self.shape.width // self.shape.heads, tokens.device)
        for block in self.blocks:
            x = block(x, rotation)
        return cast(Tensor, self.head(self.norm(x)))


class Block(nn.Module):
    """Each byte looks at those before it, then thinks for itself."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width)
        self.attention = Attention(shape)
        self.mlp_norm = nn.RMSNorm(shape.width)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation)
        return cast(Tensor, x + self.mlp(self.mlp_norm(x)))


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.head_width = shape.width // shape.heads
        self.dropout = shape.dropout
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        # The rows of qkv go head by head, so that tensor parallelism may cut them between heads: as many as are here.
        heads = self.qkv(x).unflatten(-1, (-1, 3 * self.head_width)).transpose(1, 2)
        query, key, value = heads.chunk(3, dim=-1)
        seen = functional.scaled_dot_product_attention(
            rotate(query, rotation),
            rotate(key, rotation),
            value,
            is_causal=True,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return cast(Tensor, self.drop(self.out(seen.transpose(1, 2).flatten(2))))


class MLP(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.width, 4 * shape.width, bias=False)
        self.out = nn.Linear(4 * shape.width, shape.width, bias=False)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.drop(self.out(functional.relu(self.up(x)).square())))


@torch.no_grad()
def initialize(name: str, module: nn.Module, shape: Shape) -> None:
    """Draw the initial weights that are the module's own."""
    if isinstance(module, nn.RMSNorm):
        module.weight.fill_(1)
    elif isinstance(module, nn.Linear | nn.Embedding):
        # What is added to the residual stream is added twice in each layer.
        std = _STD * (2 * shape.layers) ** -0.5 if name.endswith(".out") else _STD
        module.weight.normal_(std=std)


def rotation_of(time: int, head_width: int, device: torch.device) -> Rotation:
    """By which angles positions turn (RoFormer, 2021): the faster pairs tell neighbours apart, the slower ones pages.

    Computed anew each time, which costs nothing: a buffer would have to be filled after a start on the meta device.
    """
    speeds = _SLOWEST ** -torch.linspace(0, 1, head_width // 2, device=device)
    angles = torch.outer(torch.arange(time, device=device), speeds)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """`x` `[batch, heads, time, head width]` with each pair of its numbers turned by its position's angle."""
    cosines, sines = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, first * sines + second * cosines), dim=-1).to(x.dtype)


def write(model: nn.Module, prompt: bytes, *, count: int, context: int, temperature: float, seed: int) -> bytes:
    """`prompt` and `count` bytes more, each drawn from what the model thinks of the `context` bytes before it.

    All ranks call it and draw alike, so that they pass through the model equally often, with the same bytes: where its
    parameters are sharded every pass is a collective.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    text = list(prompt)
    for _ in range(count):
        scores = model(torch.tensor([text[-context:]], device=device))[0, -1].float().cpu()
        text += torch.multinomial(torch.softmax(scores / temperature, dim=-1), 1, generator=generator).tolist()
    return bytes(text)
