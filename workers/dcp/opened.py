"""One checkpoint as DCP sees it: its metadata, rebuilt from the headers of our shards; every byte of them proven."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)

from ...storage.backends.base import Backend
from ...storage.boxes import distinct, tile
from ...storage.digest import IMPORTED
from ...storage.errors import Damaged
from ...storage.manifest import Manifest
from ...storage.reading import ShardReader
from ...storage.shards import Piece, Placed, ShardLayout
from ...storage.whole import global_state
from ..checkpoint.dtypes import DTYPES
from .growing import walked
from .naming import LOOSE, NOTES, PROGRESS, Path, fqn, given

_SIDE_BY_SIDE: Final = 8

Part = tuple[int, Placed]
"""A piece, and the rank in whose shard it is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is under one name of DCP's: where it is in the nested state dict, and its JSON. A tensor has a `tensor`."""

    path: Path
    node: Any
    tensor: str | None


class Opened:
    """`parts` are the pieces of every tensor by its name in storage, `entries` what DCP knows by its own names."""

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        """Raises Damaged when the headers cannot be proven, or the shards do not make up whole tensors."""
        self.manifest = manifest
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            self.readers = list(pool.map(lambda rank: ShardReader(backend, manifest, rank), range(manifest.world_size)))
            layouts = list(pool.map(ShardReader.layout, self.readers))
        self.parts = _parts(layouts, manifest)
        state = {key: value for layout in layouts for key, value in global_state(layout.state).items()}
        self._notes: Mapping[str, Any] = state.pop(NOTES, {})
        try:
            self.entries = _entries(state, self._notes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            key = manifest.shard_key(0)
            raise Damaged(key, f"its state is not as relight.dcp writes it ({type(error).__name__}: {error})") from None

    def metadata(self) -> Metadata:
        """What DCP's planners plan a load by."""
        described: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {
            name: BytesStorageMetadata() if entry.tensor is None else self._tensor(name, entry.tensor)
            for name, entry in self.entries.items()
        }
        is_mapped = self._notes.get("mapped", True)
        paths = {name: entry.path for name, entry in self.entries.items()} if is_mapped else None
        return Metadata(state_dict_metadata=described, planner_data=paths, storage_data={})

    def _tensor(self, name: str, stored_as: str) -> TensorStorageMetadata:
        pieces = [placed.piece for _, placed in self.parts[stored_as]]
        noted = dict(self._notes.get("properties", {}).get(name, {}))
        if "strides" in noted:
            noted["strides"] = tuple(noted["strides"])
            if "strides" not in TensorProperties.__dataclass_fields__:  # torch 2.10
                del noted["strides"]
        return TensorStorageMetadata(
            properties=TensorProperties(dtype=DTYPES[pieces[0].dtype], **noted),
            size=torch.Size(pieces[0].global_shape),
            chunks=[
                ChunkStorageMetadata(offsets=torch.Size(piece.offset), sizes=torch.Size(piece.shape))
                for piece in pieces
            ],
        )


def _parts(layouts: list[ShardLayout], manifest: Manifest) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = defaultdict(list)
    for rank, layout in enumerate(layouts):
        for placed in layout.placed:
            found[placed.piece.name].append((rank, placed))
    parts = {name: distinct(each, _piece_of) for name, each in found.items()}
    for name, each in parts.items():
        pieces = [placed.piece for _, placed in each]
        alike = {(piece.dtype, piece.global_shape) for piece in pieces}
        if len(alike) > 1 or not tile(pieces):
            raise Damaged(manifest.id.manifest_key, f"its shards do not hold the whole of {name}")
    return parts


def _piece_of(part: Part) -> Piece:
    return part[1].piece


def _entries(state: dict[str, Any], notes: Mapping[str, Any]) -> dict[str, Entry]:
    """A checkpoint of Relight's own `Checkpointer` has no notes; its progress is of no interest to DCP."""
    loose = {key: state[key] for key in state if key.startswith(LOOSE)}
    tree = {key: value for key, value in state.items() if key not in loose and key not in {PROGRESS, IMPORTED}}
    values = {tuple(path) for path in notes["values"]} if notes else None
    found = [(given(path, bare=notes.get("bare", False)), node) for path, node in walked(tree, values)]
    found += [(tuple(each["path"]), each["value"]) for each in loose.values()]
    # The same value on several ranks is the same value: such keys are merged by DCP, too.
    return {fqn(path): Entry(path, node, _tensor_in(node)) for path, node in found}


def _tensor_in(node: Any) -> str | None:
    if isinstance(node, dict) and set(node) == {"$tensor"}:
        name: str = node["$tensor"]
        return name
    return None
