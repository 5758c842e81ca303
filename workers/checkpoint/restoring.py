"""Coming back: rank 0 picks a candidate, every rank proves its part of it, all vote, and only then is anything applied.

Ranks never list the storage. Each shard is brought by one rank, once, and then in reach of all (see `sharing`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ...storage.backends.base import Backend
from ...storage.digest import global_state
from ...storage.errors import Damaged, StorageError
from ...storage.layout import AttemptId
from ...storage.shards import Piece, ShardLayout, header_bytes, parse
from ...storage.shared_memory import SharedMemory
from ..errors import StorageTrouble
from .blank import Blank
from .collective import Circle
from .remembering import Remembered
from .sharing import Sharing
from .sources import Allocate, Candidate, Candidates
from .state import rank_name
from .tree import decode

Held = dict[int, SharedMemory]


@dataclass(frozen=True, slots=True)
class Found:
    """A proven checkpoint, all of it readable here. A context: at its end the memory is let go.

    Leave it only when no rank looks at the shards any more (`Circle.meet`): memory that is kept is written anew.
    """

    id: AttemptId
    resumed_from: AttemptId | None
    """The committed checkpoint that this is; None when it is in memory alone, and no power cut would leave it."""
    from_memory: bool
    layouts: tuple[ShardLayout, ...]
    state: dict[str, Any]
    """The global JSON."""
    own: Any
    """This rank's JSON; None when the world size has changed."""
    shards: dict[int, memoryview]
    held: Held
    """What this rank has brought, by number of the shard. Of what it has read, whoever wants to keep some takes it out
    before the end, and closes it; remembered memory is its finder's."""
    neighbours: int
    """The ranks of this host, this one included, as far as they reach each other's memory."""

    @property
    def world_size(self) -> int:
        """By how many ranks it was written."""
        return len(self.layouts)

    @property
    def progress(self) -> dict[str, Any]:
        facts: dict[str, Any] = decode(self.state["progress"], {})
        return facts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shards.clear()
        _let_go(self.held, from_memory=self.from_memory)


def find(
    backend: Backend,
    circle: Circle,
    *,
    run: str = "",
    remembered: Sequence[Remembered] = (),
    sharing: Sharing | None = None,
    allocate: Allocate = Blank,
) -> Found | None:
    """The newest checkpoint of which every byte is proven, or None when there is none to go on from. A collective.

    `remembered` are the arenas that this rank has found, of which those of the `run` count; `allocate` makes the
    memory that a shard of so many bytes is read into. Every candidate that is passed over is named with the reason.

    Raises:
        StorageTrouble: on all ranks, when the storage could not be asked on one of them.
    """
    sharing = sharing or Sharing(circle)
    candidates = Candidates(backend, circle, run, remembered)
    while candidate := candidates.next(allocate):
        held, damage, trouble = _bring_share(candidate, circle.rank)
        try:
            _refuse_trouble(circle.exchange(trouble))
            problems = [text for text in circle.exchange(damage) if text]
            if not problems:
                return _open(candidate, held, circle, sharing)
        except Damaged as error:  # All ranks see the same headers, so all of them come by here.
            problems = [str(error)]
        except BaseException:
            _let_go(held, from_memory=candidate.from_memory)
            raise
        _let_go(held, from_memory=candidate.from_memory)
        candidates.pass_over(candidate, "; ".join(problems))
    candidates.end()
    return None


def global_pieces(found: Found) -> dict[str, Piece]:
    """One piece of each global tensor: enough to know its dtype and global shape."""
    return {
        placed.piece.name: placed.piece
        for layout in found.layouts
        for placed in layout.placed
        if global_state({placed.piece.name: None})
    }


def _bring_share(candidate: Candidate, rank: int) -> tuple[Held, str, str]:
    """This rank's shards, proven; or what is damaged about them; or why they could not be read."""
    held: Held = {}
    try:
        for number, owner in enumerate(candidate.owners):
            if owner == rank:
                held[number] = memory = candidate.bring(number)
                shard = memory.view[: candidate.sizes[number]]
                _header(shard, candidate.name_of(number))  # Its length may still be found wrong: before the vote.
    except StorageError as error:
        _let_go(held, from_memory=candidate.from_memory)
        return {}, *((str(error), "") if isinstance(error, Damaged) else ("", str(error)))
    return held, "", ""


def _refuse_trouble(reports: Sequence[str]) -> None:
    if troubles := [text for text in reports if text]:
        # Nothing is known about these bytes. Taking an older checkpoint would rule this one out for good.
        raise StorageTrouble("; ".join(troubles))


def _let_go(held: Held, *, from_memory: bool) -> None:
    if not from_memory:
        for memory in held.values():
            memory.close()
    held.clear()


def _open(candidate: Candidate, held: Held, circle: Circle, sharing: Sharing) -> Found:
    """Share what was brought and read all headers. Raises Damaged on all ranks alike."""
    shards = sharing.share(held, candidate.owners, candidate.sizes)
    layouts = []
    for number, size in enumerate(candidate.sizes):
        name = candidate.name_of(number)
        layouts.append(parse(_header(shards[number], name), size, name))
    _check_complete(layouts, candidate)
    state: dict[str, Any] = {}
    for layout in layouts:
        state.update(global_state(layout.state))
    own = None
    if len(layouts) == circle.size:
        own = layouts[circle.rank].state.get(rank_name(circle.rank))
    return Found(
        id=candidate.id,
        resumed_from=candidate.resumed_from,
        from_memory=candidate.from_memory,
        layouts=tuple(layouts),
        state=state,
        own=own,
        shards=shards,
        held=held,
        neighbours=len(sharing.hosts().group_of(circle.rank)),
    )


def _header(shard: memoryview, name: str) -> bytes:
    return bytes(shard[: header_bytes(bytes(shard[:8]), len(shard), name)])


def _check_complete(layouts: Sequence[ShardLayout], candidate: Candidate) -> None:
    """The pieces of all shards together cover every tensor."""
    covered: dict[str, int] = {}
    whole: dict[str, int] = {}
    for layout in layouts:
        for piece in (placed.piece for placed in layout.placed):
            covered[piece.name] = covered.get(piece.name, 0) + math.prod(piece.shape)
            whole[piece.name] = math.prod(piece.global_shape)
    for name, count in covered.items():
        if count != whole[name]:
            reason = f"its shards hold {count} of {whole[name]} elements of {name}"
            raise Damaged(candidate.id.manifest_key, reason)
