"""The global state of a committed checkpoint as whole tensors, whatever ranks have written it; every byte proven."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .backends.base import Backend
from .boxes import byte_runs, distinct, tile
from .errors import Damaged
from .manifest import Manifest
from .proven import ProvenBytes
from .reading import ShardReader
from .sealed import canonical
from .shards import Piece, Placed

CHUNK_BYTES: Final = 16 << 20

RANK_PREFIX: Final = "rank-"
"""Names of tensors and state that belong to one rank (its RNG) and not to the global state start with this."""


class Whole:
    """Opening it reads the shards' headers; tensors are read when they are asked for, one at a time.

    `state` is the global JSON. `tensors` are the global ones by name, as pieces that are whole: dtype (safetensors'
    name) and shape. What belongs to single ranks (their random generators) is in neither.
    """

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        """Raises Damaged when the headers cannot be proven, or the shards do not make up whole tensors."""
        self.manifest = manifest
        self.state: dict[str, Any] = {}
        self._parts: dict[str, list[tuple[ProvenBytes, Placed]]] = {}
        parts: dict[str, list[tuple[ProvenBytes, Placed]]] = defaultdict(list)
        for rank in range(manifest.world_size):
            shard = ProvenBytes(ShardReader(backend, manifest, rank))
            layout = shard.reader.layout()
            _merge(self.state, global_state(layout.state), shard.reader.key)
            for placed in layout.placed:
                if not placed.piece.name.startswith(RANK_PREFIX):
                    parts[placed.piece.name].append((shard, placed))
        for name, found in parts.items():
            self._parts[name] = distinct(found, _piece_of)
            _check_complete(self._parts[name])
        firsts = ((name, found[0][1].piece) for name, found in self._parts.items())
        self.tensors = {name: Piece.whole(name, first.dtype, first.global_shape) for name, first in firsts}

    def read(self, name: str) -> bytearray:
        """The tensor's bytes, row-major. Raises Damaged."""
        whole = bytearray(self.tensors[name].size)
        for shard, placed in self._parts[name]:
            data = memoryview(shard.read(placed.start, placed.start + placed.piece.size))
            for source, target, length in byte_runs(placed.piece):
                whole[target : target + length] = data[source : source + length]
        return whole

    def chunks(self, name: str) -> Iterator[memoryview]:
        """The same bytes in stretches of CHUNK_BYTES at most; at once where the tensor is not cut into rows."""
        runs = [(shard, placed.start, list(byte_runs(placed.piece))) for shard, placed in self._parts[name]]
        if any(len(found) > 1 for _, _, found in runs):
            yield memoryview(self.read(name))
            return
        rows = sorted((found[0][1], found[0][2], start, shard) for shard, start, found in runs if found)
        for _, length, start, shard in rows:
            for first in range(start, start + length, CHUNK_BYTES):
                yield memoryview(shard.read(first, min(first + CHUNK_BYTES, start + length)))


def global_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a shard's JSON state that is the whole run's."""
    return {key: value for key, value in state.items() if not key.startswith(RANK_PREFIX)}


def _piece_of(part: tuple[ProvenBytes, Placed]) -> Piece:
    return part[1].piece


def _merge(state: dict[str, Any], more: Mapping[str, Any], key: str) -> None:
    for name, value in more.items():
        if canonical(state.setdefault(name, value)) != canonical(value):
            raise Damaged(key, f"its {name!r} differs from the one in another shard")


def _check_complete(parts: list[tuple[ProvenBytes, Placed]]) -> None:
    first = parts[0][1].piece
    for shard, placed in parts:
        if (placed.piece.dtype, placed.piece.global_shape) != (first.dtype, first.global_shape):
            raise Damaged(shard.reader.key, f"tensor {first.name} has another shape or dtype than in the other shards")
    if not tile([placed.piece for _, placed in parts]):
        key = parts[0][0].reader.key
        raise Damaged(key, f"the pieces of tensor {first.name} in all shards do not make up the whole")
