"""Boxes of a checkpoint's tensors in host memory: only the blocks that they lie in are read, each once, and proven."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

import torch

from ...storage.boxes import Box, common, spans
from ..checkpoint.blank import Blank
from ..checkpoint.windows import as_bytes, box_of, piece_at
from .opened import Opened

_READ_THREADS: Final = 4

Request = tuple[str, Box]
"""A part of the tensor that is stored under this name."""


class Fetched:
    """What was asked for, until it is closed. Raises Damaged, or OSError where the host has no memory for it."""

    def __init__(self, opened: Opened, requests: Iterable[Request]) -> None:
        self._parts = opened.parts
        self._memories: dict[int, Blank] = {}
        try:
            for rank, blocks in sorted(_blocks(opened, requests).items()):
                reader = opened.readers[rank]
                self._memories[rank] = memory = Blank(reader.size)
                for run in _runs(sorted(blocks)):
                    reader.read_into(memory.view, threads=_READ_THREADS, blocks=run)
        except BaseException:
            self.close()
            raise
        self._bytes = {rank: as_bytes(memory.view) for rank, memory in self._memories.items()}

    def into(self, target: torch.Tensor, request: Request) -> None:
        """Copy a box that was asked for to `target`, which has its shape."""
        name, box = request
        for rank, placed in self._parts[name]:
            held = Box.of(placed.piece)
            shared = common(held, box)
            if shared is not None:
                source = box_of(piece_at(self._bytes[rank], placed), held, shared)
                target[shared.within(box).slices].copy_(source)

    def close(self) -> None:
        self._bytes = {}
        while self._memories:
            self._memories.popitem()[1].close()


def _blocks(opened: Opened, requests: Iterable[Request]) -> dict[int, set[int]]:
    """Which blocks of which ranks' shards the boxes lie in."""
    wanted: dict[int, set[int]] = defaultdict(set)
    for name, box in requests:
        for rank, placed in opened.parts[name]:
            shared = common(Box.of(placed.piece), box)
            if shared is None:
                continue
            block_bytes = opened.readers[rank].block_bytes
            for start, end in spans(placed.piece, shared, block_bytes):
                wanted[rank].update(
                    range((placed.start + start) // block_bytes, -(-(placed.start + end) // block_bytes))
                )
    return wanted


def _runs(blocks: list[int]) -> Iterator[range]:
    """Neighbours together."""
    first = 0
    for number in range(1, len(blocks) + 1):
        if number == len(blocks) or blocks[number] != blocks[number - 1] + 1:
            yield range(blocks[first], blocks[number - 1] + 1)
            first = number
