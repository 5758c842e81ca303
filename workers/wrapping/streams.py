"""The random numbers of a tensor-parallel group, whose ranks have to draw alike or what they replicate drifts apart."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from ..checkpoint import rng
from ..checkpoint.collective import Circle
from ..parallel import World


def share_streams(world: World) -> None:
    """Give the ranks of each tensor-parallel group the generators of its first rank. A collective.

    To be called when a checkpoint was restored: one that was written in another mode has a stream for each rank. In
    the same mode they are alike already, and nothing changes.
    """
    if world.tensor == 1:
        return
    circle = Circle(world.control)
    mine = json.dumps(rng.capture(), default=lambda array: array.tolist()).encode()
    for first in range(0, world.world_size, world.tensor):
        said = circle.tell(mine, source=first)
        if first <= world.rank < first + world.tensor:
            rng.restore(_arrays(json.loads(said)))


def _arrays(state: dict[str, Any]) -> dict[str, Any]:
    state["python"]["internal"] = np.array(state["python"]["internal"], dtype=np.int64)
    state["numpy"]["keys"] = np.array(state["numpy"]["keys"], dtype=np.uint32)
    return {
        **state,
        **{name: torch.tensor(state[name], dtype=torch.uint8) for name in ("torch", "cuda") if name in state},
    }
