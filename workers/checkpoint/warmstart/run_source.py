"""Another run's checkpoint as a source: its model, whatever ranks have written it, every byte proven."""

from __future__ import annotations

import math
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import torch

from ....storage.backends.base import Backend
from ....storage.boxes import Box, common, tile
from ....storage.errors import Damaged
from ....storage.manifest import Manifest
from ....storage.reading import ShardReader
from ....storage.shards import ITEM_BYTES, Placed
from ..dtypes import DTYPES
from .tensors import Described

_MODEL: Final = "model/"
_READ_THREADS: Final = 4


class RunSource:
    """The tensors under `model/`, by the names that the user's module gives them."""

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        """Raises Damaged when the shards' headers do not describe whole tensors."""
        self.title = f"{backend.url} (its checkpoint of step {manifest.step})"
        self._parts: dict[str, list[tuple[_Blocks, Placed]]] = defaultdict(list)
        for number in range(manifest.world_size):
            blocks = _Blocks(ShardReader(backend, manifest, number))
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


def _read(blocks: _Blocks, placed: Placed, box: Box) -> torch.Tensor:
    """A box of what one piece holds, by way of the rows (of dimension 0) that it lies in."""
    piece = placed.piece
    shape, first, rows = piece.shape, *((box.offset[0], box.shape[0]) if piece.shape else (0, 1))
    row_bytes = math.prod(shape[1:]) * ITEM_BYTES[piece.dtype]
    start = placed.start + first * row_bytes
    data = torch.frombuffer(blocks.read(start, start + rows * row_bytes), dtype=DTYPES[piece.dtype])
    if not shape:
        return data.reshape(())
    return data.reshape(rows, *shape[1:])[(slice(None), *box.slices[1:])]


class _Blocks:
    """A shard's bytes, proven. The block read last is kept: the tensor that begins in it is mostly asked for next."""

    def __init__(self, reader: ShardReader) -> None:
        self.reader = reader
        self._kept: tuple[int, memoryview] | None = None

    def read(self, start: int, end: int) -> bytearray:
        """The bytes [start, end), of which there is at least one."""
        blocks = [block for block in self.reader.blocks() if self._reaches(block, start, end)]
        found = bytearray(end - start)

        def bring(block: int) -> memoryview:
            data = self._block(block)
            low, high = self.reader.span(block)
            found[max(low, start) - start : min(high, end) - start] = data[max(low, start) - low : min(high, end) - low]
            return data if block == blocks[-1] else memoryview(b"")

        with ThreadPoolExecutor(min(_READ_THREADS, len(blocks))) as pool:
            *_, last = pool.map(bring, blocks)
        self._kept = (blocks[-1], last)
        return found

    def _reaches(self, block: int, start: int, end: int) -> bool:
        low, high = self.reader.span(block)
        return low < end and start < high

    def _block(self, block: int) -> memoryview:
        if self._kept is not None and self._kept[0] == block:
            return self._kept[1]
        low, high = self.reader.span(block)
        data = memoryview(bytearray(high - low))
        self.reader.read_block(block, data)
        return data
