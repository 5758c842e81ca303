"""One digest over the global state, the same however it was sharded: the way to compare two checkpoints."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import xxhash

from .backends.base import Backend
from .boxes import byte_runs, distinct, tile
from .errors import Damaged
from .manifest import Manifest
from .reading import ShardReader
from .sealed import canonical
from .shards import ITEM_BYTES, Piece, Placed

RANK_PREFIX = "rank-"
"""Names of tensors and state that belong to one rank (its RNG) and not to the global state start with this."""


def digest(backend: Backend, manifest: Manifest) -> str:
    """xxh3_128 (32 hex digits) over names, dtypes, shapes and bytes of all global tensors, and the global JSON state.

    What belongs to single ranks is left out: it cannot be equal at another world size. Memory: one tensor at a time.

    Raises:
        Damaged: a byte is not what was written, or the pieces do not make up the whole.
    """
    readers = [ShardReader(backend, manifest, rank) for rank in range(manifest.world_size)]
    layouts = [reader.layout() for reader in readers]
    parts: dict[str, list[tuple[ShardReader, Placed]]] = defaultdict(list)
    state: dict[str, Any] = {}
    for reader, layout in zip(readers, layouts, strict=True):
        _merge(state, global_state(layout.state), reader.key)
        for placed in layout.placed:
            if not placed.piece.name.startswith(RANK_PREFIX):
                parts[placed.piece.name].append((reader, placed))
    hasher = xxhash.xxh3_128()
    hasher.update(canonical(state).encode())
    for name in sorted(parts):
        piece = parts[name][0][1].piece
        content = xxhash.xxh3_128_hexdigest(_assemble(distinct(parts[name], _piece_of)))
        hasher.update(canonical([name, piece.dtype, piece.global_shape, content]).encode())
    return hasher.hexdigest()


def global_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a shard's JSON state that is the whole run's."""
    return {key: value for key, value in state.items() if not key.startswith(RANK_PREFIX)}


def _piece_of(part: tuple[ShardReader, Placed]) -> Piece:
    return part[1].piece


def _merge(state: dict[str, Any], more: Mapping[str, Any], key: str) -> None:
    for name, value in more.items():
        if canonical(state.setdefault(name, value)) != canonical(value):
            raise Damaged(key, f"its {name!r} differs from the one in another shard")


def _assemble(parts: list[tuple[ShardReader, Placed]]) -> bytearray:
    """The bytes of one global tensor, row-major, from the pieces that the shards hold."""
    first = parts[0][1].piece
    for reader, placed in parts:
        if (placed.piece.dtype, placed.piece.global_shape) != (first.dtype, first.global_shape):
            raise Damaged(reader.key, f"tensor {first.name} has another shape or dtype than in the other shards")
    if not tile([placed.piece for _, placed in parts]):
        raise Damaged(parts[0][0].key, f"the pieces of tensor {first.name} in all shards do not make up the whole")
    whole = bytearray(math.prod(first.global_shape) * ITEM_BYTES[first.dtype])
    for reader, placed in parts:
        data = memoryview(reader.read_range(placed.start, placed.start + placed.piece.size))
        for source, target, length in byte_runs(placed.piece):
            whole[target : target + length] = data[source : source + length]
    return whole
