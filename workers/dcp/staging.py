"""A rank's share of a save, from the planner's items to the bytes of a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem, WriteItemType

from ...storage.arrangement import plan as lay_out
from ...storage.layout import AttemptId
from ...storage.shards import Piece, ShardLayout
from ..checkpoint.dtypes import NAMES
from ..checkpoint.staging import Copier, Pair
from ..checkpoint.tree import Tensors
from ..checkpoint.windows import tensor_at
from ..errors import NotCaptured
from .naming import Path, fqn, stored, tensor_name
from .values import encoded

_BATCH_BYTES: Final = 256 << 20
"""So much is asked of the planner before it is copied: a planner may make new tensors for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """What rank 0 tells each rank through the plan: under which name this save's shards are written."""

    id: AttemptId
    run: str
    token: str
    rank: int
    world_size: int
    bare: bool
    """See `naming.stored`."""


@dataclass(slots=True)
class Share:
    """What one rank writes. `values` are those that are no tensors, encoded; `inner` the tensors within them."""

    pieces: dict[Piece, WriteItem] = field(default_factory=dict)
    values: dict[Path, Any] = field(default_factory=dict)
    inner: Tensors = field(default_factory=dict)

    def layout(self, state: Mapping[str, Any]) -> ShardLayout:
        """Raises ValueError when the state is too large for a shard's header."""
        inner = (Piece.whole(name, NAMES[it.dtype], tuple(it.shape)) for name, it in self.inner.items())
        return lay_out([*self.pieces, *inner], state)


def path_of(plan: SavePlan, item: WriteItem) -> Path:
    """Where DCP's planner has found it in the nested state dict; its bare name, of a planner that does not say."""
    known = plan.planner_data
    name = item.index.fqn
    path = tuple(known.get(name, ())) if isinstance(known, Mapping) else ()
    return path if path and fqn(path) == name else (name,)


def is_tensor(item: WriteItem) -> bool:
    return item.type is not WriteItemType.BYTE_IO


def share(plan: SavePlan, planner: SavePlanner, place: Place) -> Share:
    """What this plan says, looked up but not copied.

    Raises:
        NotCaptured: something cannot be expressed without pickle; the message names it and the way out.
    """
    found = Share()
    for item in plan.items:
        path = path_of(plan, item)
        if is_tensor(item):
            found.pieces[piece_of(item, tensor_name(stored(path, bare=place.bare)))] = item
        else:
            found.values[path] = encoded(planner, item, tensor_name(path), found.inner)
    return found


def piece_of(item: WriteItem, name: str) -> Piece:
    assert item.tensor_data is not None
    data = item.tensor_data
    dtype = NAMES.get(data.properties.dtype)
    if dtype is None or data.properties.layout is not torch.strided:
        message = (
            f"{item.index.fqn} is a {data.properties.layout} tensor of {data.properties.dtype}, which a shard cannot "
            f"hold. Turn it into one of {', '.join(str(each).removeprefix('torch.') for each in NAMES)}"
        )
        raise NotCaptured(message)
    return Piece(name, dtype, tuple(data.chunk.sizes), tuple(data.size), tuple(data.chunk.offsets))


def fill(view: memoryview, layout: ShardLayout, found: Share, planner: SavePlanner) -> None:
    """Copy it all to where the layout has it; device tensors come to the host here."""
    view[: len(layout.header)] = layout.header
    copier = Copier(1)
    for batch in _batches(view, layout, found, planner):
        copier.copy(batch)


def _batches(view: memoryview, layout: ShardLayout, found: Share, planner: SavePlanner) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    room = _BATCH_BYTES
    for placed in layout.placed:
        piece = placed.piece
        item = found.pieces.get(piece)
        source = found.inner[piece.name] if item is None else _resolved(planner, item, piece)
        if piece.size:
            batch.append((tensor_at(view, placed.start, piece), source))
        room -= piece.size
        if room <= 0:
            yield batch
            batch, room = [], _BATCH_BYTES
    yield batch


def _resolved(planner: SavePlanner, item: WriteItem, piece: Piece) -> torch.Tensor:
    tensor = planner.resolve_data(item)
    assert isinstance(tensor, torch.Tensor)
    if tuple(tensor.shape) != piece.shape or NAMES.get(tensor.dtype) != piece.dtype:
        message = (
            f"{item.index.fqn}: the planner gave {list(tensor.shape)} of {tensor.dtype} where it had planned "
            f"{list(piece.shape)} of {piece.dtype}. Let the plan say what resolve_data returns"
        )
        raise NotCaptured(message)
    return tensor.detach()
