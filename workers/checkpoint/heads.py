"""What a checkpoint says of itself: its shards' headers, each read and proven by one rank and told to all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...storage.boxes import distinct, tile
from ...storage.errors import Damaged, StorageError
from ...storage.layout import AttemptId
from ...storage.shards import Piece, ShardLayout, parse
from ...storage.shared_memory import SharedMemory
from ...storage.whole import global_state
from ..errors import StorageTrouble
from .blank import Blank
from .candidate import Candidate, Start
from .collective import Circle
from .sharing import Shelf
from .state import rank_name
from .tree import decode


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a checkpoint before its tensors are read: proven, and the same on all ranks."""

    id: AttemptId
    resumed_from: AttemptId | None
    """The committed checkpoint that this is; None when it is in memory alone, and no power cut would leave it."""
    from_memory: bool
    layouts: tuple[ShardLayout, ...]
    state: dict[str, Any]
    """The global JSON."""

    @property
    def world_size(self) -> int:
        """By how many ranks it was written."""
        return len(self.layouts)

    @property
    def progress(self) -> dict[str, Any]:
        facts: dict[str, Any] = decode(self.state["progress"], {})
        return facts

    @property
    def pieces(self) -> dict[str, Piece]:
        """One piece of each global tensor: enough to know its dtype and global shape."""
        named = {placed.piece.name: placed.piece for layout in self.layouts for placed in layout.placed}
        return {name: named[name] for name in global_state(named)}

    def own(self, rank: int) -> Any:
        """The JSON that belongs to one of the ranks that wrote it."""
        return self.layouts[rank].state.get(rank_name(rank))


@dataclass(frozen=True, slots=True)
class Begun:
    """What is there of the shards already: by number, how many `blocks` their owner has, each of `block_bytes`.

    `held` is this rank's memory of shards it owns, besides what is on the shelf.
    """

    blocks: tuple[int, ...]
    block_bytes: tuple[int, ...]
    held: dict[int, SharedMemory]


class Unproven(Exception):
    """On all ranks alike: this candidate cannot be used."""


def open_head(candidate: Candidate, circle: Circle, shelf: Shelf) -> tuple[Head, Begun]:
    """Open all shards, each on its owner. A collective.

    Raises:
        Unproven: something is damaged.
        StorageTrouble: something could not be read.
    """
    starts, damage, trouble = _begin(candidate, circle.rank, shelf)
    vote(circle, damage, trouble)
    facts = {number: [start.blocks, start.block_bytes, len(start.header)] for number, start in starts.items()}
    told = [json.loads(text) for text in circle.exchange(json.dumps(facts))]
    texts = circle.gather(b"".join(start.header for start in starts.values()))
    by_number = {int(number): fact for facts in told for number, fact in facts.items()}
    headers = {
        number: header for facts, text in zip(told, texts, strict=True) for number, header in _taken_apart(facts, text)
    }
    try:
        layouts = tuple(
            parse(headers[number], size, candidate.name_of(number)) for number, size in enumerate(candidate.sizes)
        )
        _check_complete(layouts, candidate)
    except Damaged as error:  # All ranks see the same headers, so all of them come by here.
        raise Unproven(str(error)) from None
    state: dict[str, Any] = {}
    for layout in layouts:
        state.update(global_state(layout.state))
    head = Head(candidate.id, candidate.resumed_from, candidate.from_memory, layouts, state)
    held = {number: start.memory for number, start in starts.items() if number not in shelf.blanks}
    blocks, block_bytes, _ = zip(*(by_number[number] for number in range(len(layouts))), strict=True)
    return head, Begun(blocks, block_bytes, held)


def vote(circle: Circle, damage: str, trouble: str) -> None:
    """Go on only when no rank has found anything wrong. Raises as `open_head` does, on all ranks alike."""
    if troubles := [text for text in circle.exchange(trouble) if text]:
        # Nothing is known about these bytes. Taking an older checkpoint would rule this one out for good.
        raise StorageTrouble("; ".join(troubles))
    if problems := [text for text in circle.exchange(damage) if text]:
        raise Unproven("; ".join(problems))


def _begin(candidate: Candidate, rank: int, shelf: Shelf) -> tuple[dict[int, Start], str, str]:
    """The shards that this rank owns, opened; or what is damaged about them; or why they could not be read."""
    starts: dict[int, Start] = {}
    try:
        for number, owner in enumerate(candidate.owners):
            if owner == rank:
                starts[number] = start = candidate.begin(number)
                if isinstance(start.memory, Blank):
                    shelf.blanks[number] = start.memory
    except Damaged as error:
        return {}, str(error), ""
    except StorageError as error:
        return {}, "", str(error)
    return starts, "", ""


def _taken_apart(facts: dict[str, list[int]], text: bytes) -> Iterator[tuple[int, bytes]]:
    """The headers that one rank has sent, one after the other."""
    start = 0
    for number, (_, _, length) in facts.items():
        yield int(number), text[start : start + length]
        start += length


def _check_complete(layouts: Sequence[ShardLayout], candidate: Candidate) -> None:
    """The pieces of all shards together make up every tensor."""
    pieces: dict[str, list[Piece]] = {}
    for layout in layouts:
        for placed in layout.placed:
            pieces.setdefault(placed.piece.name, []).append(placed.piece)
    for name, parts in pieces.items():
        if len(parts) == 1 and parts[0].is_whole:  # As most of thousands of small tensors are.
            continue
        own = distinct(parts, lambda piece: piece)
        if any(piece.global_shape != own[0].global_shape or piece.dtype != own[0].dtype for piece in own):
            raise Damaged(candidate.id.manifest_key, f"its shards do not agree on the shape and dtype of {name}")
        if not tile(own):
            held, whole = sum(math.prod(piece.shape) for piece in own), math.prod(own[0].global_shape)
            raise Damaged(candidate.id.manifest_key, f"its shards hold {held} of {whole} elements of {name}")
