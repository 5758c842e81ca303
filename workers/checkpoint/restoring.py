"""Coming back: rank 0 picks a candidate, every rank proves its part of it, all vote, and only then is anything applied.

Ranks never list the storage. Each shard is read once, by one rank, and passed on to the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...storage.backends.base import Backend
from ...storage.catalog import Catalog, Standing
from ...storage.digest import global_state
from ...storage.errors import Damaged, StorageError
from ...storage.manifest import Manifest
from ...storage.reading import ShardReader
from ...storage.shards import Piece, ShardLayout, header_bytes, parse
from ..errors import StorageTrouble
from ..notices import say
from .arena import Arena, box_of, tensor_at
from .collective import Circle
from .dtypes import DTYPES
from .lead import from_rank_zero
from .state import rank_name
from .tree import decode

_READ_THREADS = 4


@dataclass(frozen=True, slots=True)
class Found:
    """A proven checkpoint. `state` is the global JSON, `own` this rank's (None when the world size has changed)."""

    manifest: Manifest
    layouts: tuple[ShardLayout, ...]
    state: dict[str, Any]
    own: Any
    held: dict[int, memoryview]
    """The shards that this rank has read, by number."""

    @property
    def progress(self) -> dict[str, Any]:
        facts: dict[str, Any] = decode(self.state["progress"], {})
        return facts


def find(backend: Backend, circle: Circle) -> Found | None:
    """The newest checkpoint of which every byte is proven, or None when there is none to go on from. A collective.

    Every candidate that is passed over is named with the reason.

    Raises:
        StorageTrouble: on all ranks, when the storage could not be asked on one of them.
    """
    candidates = _Candidates(backend)
    while manifest := _next_candidate(candidates, circle):
        held, damage, trouble = _read_share(backend, manifest, circle)
        if troubles := [text for text in circle.exchange(trouble) if text]:
            # Nothing is known about these bytes. Taking an older checkpoint would rule this one out for good.
            raise StorageTrouble("; ".join(troubles))
        problems = [text for text in circle.exchange(damage) if text]
        if not problems:
            try:
                return _open(manifest, held, circle)
            except Damaged as error:  # All ranks hold the same headers, so all of them come by here.
                problems = [str(error)]
        if circle.rank == 0:
            candidates.pass_over(manifest.step, "; ".join(problems))
    if candidates.passed_over:
        say(f"none of the {candidates.passed_over} checkpoints at {backend.url} can be used: starting over")
    return None


class _Candidates:
    """Rank 0's walk through the catalog, newest first. Looked at one by one: most resumes need only the first."""

    def __init__(self, backend: Backend) -> None:
        self._listing = Catalog(backend).candidates()
        self.passed_over = 0

    def next(self) -> Manifest | None:
        for listed in self._listing:
            if listed.standing is Standing.COMMITTED:
                return listed.manifest
            self.pass_over(listed.id.step, listed.reason)
        return None

    def pass_over(self, step: int, reason: str) -> None:
        self.passed_over += 1
        say(f"checkpoint of step {step} is not used: {reason}. Trying the one before it")


def load_tensors(found: Found, circle: Circle) -> dict[str, torch.Tensor]:
    """Every global tensor, and this rank's own, on the CPU. A collective: each shard is passed on by who holds it."""
    mine = f"{rank_name(circle.rank)}/"
    tensors: dict[str, torch.Tensor] = {}
    scratch = Arena()
    for number, layout in enumerate(found.layouts):
        owner = number % circle.size
        view = found.held[number] if owner == circle.rank else scratch.reserve(layout.size)
        circle.fill(view, owner)
        for placed in layout.placed:
            piece = placed.piece
            if (piece.name.startswith(mine) and found.own is not None) or not _belongs_to_a_rank(piece):
                if piece.name not in tensors:
                    tensors[piece.name] = torch.empty(piece.global_shape, dtype=DTYPES[piece.dtype])
                if piece.size:
                    box_of(tensors[piece.name], piece).copy_(tensor_at(view, placed.start, piece))
    return tensors


def global_pieces(found: Found) -> dict[str, Piece]:
    """One piece of each global tensor: enough to know its dtype and global shape."""
    return {
        placed.piece.name: placed.piece
        for layout in found.layouts
        for placed in layout.placed
        if not _belongs_to_a_rank(placed.piece)
    }


def _belongs_to_a_rank(piece: Piece) -> bool:
    return not global_state({piece.name: None})


def _next_candidate(candidates: _Candidates, circle: Circle) -> Manifest | None:
    def pick() -> Any:
        manifest = candidates.next()
        return manifest.model_dump(mode="json") if manifest is not None else None

    answer = from_rank_zero(circle, pick)
    return Manifest.model_validate_json(json.dumps(answer)) if answer else None


def _read_share(backend: Backend, manifest: Manifest, circle: Circle) -> tuple[dict[int, memoryview], str, str]:
    """This rank's shards, read and proven; or what is damaged about them; or why they could not be read."""
    held = {}
    try:
        for number in range(circle.rank, manifest.world_size, circle.size):
            reader = ShardReader(backend, manifest, number)
            held[number] = Arena().reserve(reader.size)
            reader.read_into(held[number], threads=_READ_THREADS)
            _header(held[number], reader.key)  # Here its length may still be found wrong: before the vote.
    except Damaged as error:
        return {}, str(error), ""
    except StorageError as error:
        return {}, "", str(error)
    return held, "", ""


def _open(manifest: Manifest, held: dict[int, memoryview], circle: Circle) -> Found:
    layouts = []
    for number, entry in enumerate(manifest.shards):
        key = manifest.shard_key(number)
        header = _header(held[number], key) if number in held else b""
        layouts.append(parse(circle.tell(header, number % circle.size), entry.size, key))
    _check_complete(layouts, manifest)
    state: dict[str, Any] = {}
    for layout in layouts:
        state.update(global_state(layout.state))
    own = None
    if manifest.world_size == circle.size:
        name = rank_name(circle.rank)
        own = layouts[circle.rank].state.get(name)
    return Found(manifest, tuple(layouts), state, own, held)


def _header(shard: memoryview, key: str) -> bytes:
    return bytes(shard[: header_bytes(bytes(shard[:8]), len(shard), key)])


def _check_complete(layouts: Sequence[ShardLayout], manifest: Manifest) -> None:
    """The pieces of all shards together cover every tensor."""
    covered: dict[str, int] = {}
    whole: dict[str, int] = {}
    for layout in layouts:
        for piece in (placed.piece for placed in layout.placed):
            covered[piece.name] = covered.get(piece.name, 0) + math.prod(piece.shape)
            whole[piece.name] = math.prod(piece.global_shape)
    for name, count in covered.items():
        if count != whole[name]:
            raise Damaged(manifest.id.manifest_key, f"its shards hold {count} of {whole[name]} elements of {name}")
