"""The state that is saved: a replicated model under DDP and its AdamW moments, of a chosen size and shape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Shape = Literal["few", "many"]

PARAMETERS: Final[dict[Shape, int]] = {"few": 22, "many": 1000}
"""With the two moments of each: 66 large tensors, or 3,000 small ones. Besides them one scalar a parameter."""

_COLUMNS: Final = 256
_ITEM_BYTES: Final = 4
_COPIES: Final = 3
"""A parameter and its two moments."""


class Replica(nn.Module):
    def __init__(self, shape: Shape, total_bytes: int) -> None:
        super().__init__()
        count = PARAMETERS[shape]
        elements = max(1, total_bytes // (count * _COPIES * _ITEM_BYTES))
        rows, rest = divmod(elements, _COLUMNS)
        size = (rows, _COLUMNS) if rows and (rest == 0 or rows > _COLUMNS) else (elements,)
        self.layers = nn.ParameterList(nn.Parameter(torch.zeros(size)) for _ in range(count))


@dataclass(frozen=True, slots=True)
class Live:
    """What a rank trains: alike on all ranks."""

    ddp: DistributedDataParallel
    optimizer: torch.optim.AdamW

    @property
    def model(self) -> nn.Module:
        model: nn.Module = self.ddp.module
        return model

    def state_dict(self) -> dict[str, Any]:
        """References to the live tensors, as a user hands them to `torch.save` or DCP."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def tensors(self) -> Iterator[torch.Tensor]:
        """Everything but the scalars, always in the same order."""
        for parameter in self.model.parameters():
            yield parameter.detach()
            yield self.optimizer.state[parameter]["exp_avg"]
            yield self.optimizer.state[parameter]["exp_avg_sq"]

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors())

    def fingerprint(self) -> str:
        """Differs when any element differs (but for luck): proves that a restore brought back what was saved."""
        sums = [int(tensor.view(torch.int32).sum(dtype=torch.int64)) for tensor in self.tensors()]
        return hashlib.sha256(repr(sums).encode()).hexdigest()[:16]


def build(shape: Shape, total_bytes: int, *, seed: int | None) -> Live:
    """The same on every rank, of `total_bytes` but for a remainder. `seed` None: all zeros, as before a restore."""
    model = Replica(shape, total_bytes)
    # A static graph is not settled by a backward pass, and all replicas are alike: the restore is timed, not DDP.
    ddp = DistributedDataParallel(model, static_graph=True, init_sync=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for parameter in model.parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(1.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    live = Live(ddp, optimizer)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for tensor in live.tensors():
            tensor.uniform_(generator=generator)
    return live
