"""What of a sharded tensor is here: DTensors as boxes of their global tensor, by torch's own arithmetic."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.distributed.tensor import DTensor

from ...storage.boxes import Box
from ..errors import NotCaptured
from .plan import Held

_known: dict[Any, Held] = {}
_MOST_KNOWN = 1 << 16


def is_sharded(tensor: object) -> bool:
    """Whether it is a DTensor, of which a rank may hold a part only."""
    return isinstance(tensor, DTensor)


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What of it lies on this rank, sharing its memory: all of a plain tensor, which holds no gradient's history."""
    detached = tensor.detach()
    return detached.to_local() if isinstance(detached, DTensor) else detached


def held(tensor: DTensor, name: str) -> Held:
    """The box of the global tensor that this rank has, and who has the same.

    The arithmetic is what torch.distributed.checkpoint takes, so strided shards (tensor parallel, then FSDP) are where
    torch has put them. It is worked out once for each mesh, placement and shape.

    Raises:
        NotCaptured: it is a sum that is still pending, or not one box; the message has its name.
    """
    mesh, placements = tensor.device_mesh, tuple(tensor.placements)
    key = (mesh, placements, tuple(tensor.shape))
    known = _known.get(key)
    if known is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[key] = _held(tensor, name)
    return known


def _held(tensor: DTensor, name: str) -> Held:
    if any(placement.is_partial() for placement in tensor.placements):
        message = f"{name} is a DTensor whose ranks hold terms of a sum (Partial): redistribute it before it is saved"
        raise NotCaptured(message)
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:
        return Held(Box((0,) * tensor.ndim, (0,) * tensor.ndim), ())
    chunks = cast(Any, tensor).__create_chunk_list__()
    if len(chunks) != 1:
        message = f"{name} is a DTensor of which a rank holds {len(chunks)} parts; only one can be saved"
        raise NotCaptured(message)
    (chunk,) = chunks
    grid: torch.Tensor = tensor.device_mesh.mesh
    replicas = grid[
        tuple(
            slice(None) if placement.is_replicate() else here
            for placement, here in zip(tensor.placements, coordinate, strict=True)
        )
    ]
    ranks = tuple(sorted(int(rank) for rank in replicas.flatten().tolist()))
    return Held(Box(tuple(chunk.offsets), tuple(chunk.sizes)), ranks)


def like(live: DTensor, dtype: torch.dtype) -> DTensor:
    """A new DTensor with memory of its own, sharded as `live` is; what is in it is not said."""
    local = torch.empty_like(local_part(live), dtype=dtype)
    return DTensor.from_local(
        local, live.device_mesh, live.placements, run_check=False, shape=live.shape, stride=live.stride()
    )
