"""Coming back: rank 0 picks a candidate, every rank proves its part of it, all vote, and only then is it applied.

Ranks never list the storage. Of each shard only what some rank needs is read, once, and then in reach of all who need
it (see `assigning` and `sharing`). What a rank needs it says itself, when it has seen what there is.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch

from ...storage.backends.base import Backend
from ...storage.errors import Damaged, StorageError
from ..errors import NotCaptured, StateMismatch
from .assigning import assign, blocks
from .bringing import Reading
from .candidate import Candidate
from .collective import Circle
from .heads import Head, Unproven, open_head, vote
from .placing import Placing, Want, pairs
from .remembering import Remembered
from .sharing import Sharing, Shelf
from .sources import Candidates
from .staging import Copier

Prepare = Callable[[Head], Placing]
"""Compares a checkpoint with what is here and says what is needed of it. Raises StateMismatch."""


@dataclass(frozen=True, slots=True)
class Found:
    """A proven checkpoint. What was wanted is there, in the tensors that are new, or on the shelf for the live ones.

    A context: at its end the memory is let go. Leave it only when no rank looks at the shelf any more (`Circle.meet`).
    """

    head: Head
    late: Sequence[Want]
    shelf: Shelf
    copier: Copier

    def fill(self) -> None:
        """Copy what was kept back into the live tensors. From here on they are the checkpoint's."""
        self.copier.copy(pairs(self.late, self.shelf.views))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shelf.close()


def everything(head: Head) -> Placing:
    """Want all there is, into new tensors."""
    placing = Placing(head.layouts)
    for name in placing:
        placing.targets()[name]
    return placing


def find(
    backend: Backend,
    circle: Circle,
    *,
    run: str = "",
    remembered: Sequence[Remembered] = (),
    sharing: Sharing | None = None,
    prepare: Prepare = everything,
) -> Found | None:
    """The newest checkpoint of which all that is needed is proven, or None when there is none. A collective.

    `remembered` are the arenas that this rank has found, of which those of the `run` count; `prepare` is asked for each
    candidate. Every candidate that is passed over is named with the reason.

    Raises:
        StorageTrouble: on all ranks, when the storage could not be asked on one of them.
        StateMismatch: on all ranks, when a candidate that can be read does not fit on one of them.
    """
    sharing = sharing or Sharing(circle)
    candidates = Candidates(backend, circle, run, remembered)
    with _uncollected():
        return _find(candidates, circle, sharing, prepare)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nearly all of the small objects that thousands of tensors take stay: looking for garbage there is in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _find(candidates: Candidates, circle: Circle, sharing: Sharing, prepare: Prepare) -> Found | None:
    while candidate := candidates.next():
        shelf = Shelf()
        try:
            return _prove(candidate, circle, sharing, shelf, prepare)
        except Unproven as flaw:
            shelf.close()
            candidates.pass_over(candidate, str(flaw))
        except BaseException:
            shelf.close()
            raise
    candidates.end()
    return None


def _prove(candidate: Candidate, circle: Circle, sharing: Sharing, shelf: Shelf, prepare: Prepare) -> Found:
    head, begun = open_head(candidate, circle, shelf)
    placing, needs = _tell_needs(circle, head, begun.block_bytes, prepare)
    parcels = assign(needs, candidate.owners, begun.blocks)
    sharing.open(shelf, begun.held, candidate.owners, candidate.sizes, parcels)
    reading = Reading([parcel for parcel in parcels if parcel.reader == circle.rank], placing.wants, begun.block_bytes)
    copier = Copier(_threads(sharing, circle.rank))
    damage = trouble = ""
    try:
        reading.run(candidate, shelf, begun.blocks, copier)
    except Damaged as error:
        damage = str(error)
    except StorageError as error:
        trouble = str(error)
    vote(circle, damage, trouble)
    sharing.pass_on(shelf, parcels, begun.block_bytes)
    return Found(head, reading.late, shelf, copier)


def _tell_needs(
    circle: Circle, head: Head, block_bytes: Sequence[int], prepare: Prepare
) -> tuple[Placing, list[dict[int, list[tuple[int, int]]]]]:
    """What is to be filled here, and which blocks every rank needs for that."""
    placing, refusal = Placing(()), None
    try:
        placing = prepare(head)
    except (StateMismatch, NotCaptured) as error:
        refusal = error
    spans: dict[int, list[tuple[int, int]]] = {}
    for want in placing.wants:
        spans.setdefault(want.shard, []).extend(want.spans(block_bytes[want.shard]))
    mine = {shard: blocks(own, block_bytes[shard]) for shard, own in spans.items()}
    told = [json.loads(text) for text in circle.exchange(json.dumps([str(refusal or ""), mine]))]
    if any(refused for refused, _ in told):
        raise refusal or StateMismatch(next(f"rank {rank}: {text}" for rank, (text, _) in enumerate(told) if text))
    return placing, [{int(shard): [(a, b) for a, b in runs] for shard, runs in need.items()} for _, need in told]


def _threads(sharing: Sharing, rank: int) -> int:
    """How many of this rank may copy at once: its part of the host's processors, which torch may use up by itself."""
    neighbours = len(sharing.hosts().group_of(rank))
    return max(1, len(os.sched_getaffinity(0)) // neighbours // torch.get_num_threads())
