"""Another run's checkpoint as a source: its model, whatever ranks have written it, every byte proven."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final

import torch

from ....storage.backends.base import Backend
from ....storage.boxes import Box, common, tile
from ....storage.errors import Damaged
from ....storage.manifest import Manifest
from ....storage.proven import ProvenBytes
from ....storage.reading import ShardReader
from ....storage.shards import ITEM_BYTES, Placed
from ..dtypes import DTYPES
from .tensors import Described

_MODEL: Final = "model/"


class RunSource:
    """The tensors under `model/`, by the names that the user's module gives them."""

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        """Raises Damaged when the shards' headers do not describe whole tensors."""
        self.title = f"{backend.url} (its checkpoint of step {manifest.step})"
        self._parts: dict[str, list[tuple[ProvenBytes, Placed]]] = defaultdict(list)
        for number in range(manifest.world_size):
            blocks = ProvenBytes(ShardReader(backend, manifest, number))
            for placed in blocks.reader.layout().placed:
                if placed.piece.name.startswith(_MODEL):
                    self._parts[placed.piece.name.removeprefix(_MODEL)].append((blocks, placed))
        for name, parts in self._parts.items():
            if not tile([placed.piece for _, placed in parts]):
                raise Damaged(manifest.id.manifest_key, f"its shards do not hold the whole of {name}")
        self.described = {
            name: Described(DTYPES[parts[0][1].piece.dtype], parts[0][1].piece.global_shape)
            for name, parts in self._parts.items()
        }

    def read(self, name: str, box: Box) -> torch.Tensor:
        target = torch.empty(box.shape, dtype=self.described[name].dtype)
        for blocks, placed in self._parts[name]:
            shared = common(Box.of(placed.piece), box)
            if shared is not None:
                target[shared.within(box).slices] = _read(blocks, placed, shared.within(Box.of(placed.piece)))
        return target


def _read(blocks: ProvenBytes, placed: Placed, box: Box) -> torch.Tensor:
    """A box of what one piece holds, by way of the rows (of dimension 0) that it lies in."""
    piece = placed.piece
    shape, first, rows = piece.shape, *((box.offset[0], box.shape[0]) if piece.shape else (0, 1))
    row_bytes = math.prod(shape[1:]) * ITEM_BYTES[piece.dtype]
    start = placed.start + first * row_bytes
    data = torch.frombuffer(blocks.read(start, start + rows * row_bytes), dtype=DTYPES[piece.dtype])
    if not shape:
        return data.reshape(())
    return data.reshape(rows, *shape[1:])[(slice(None), *box.slices[1:])]
