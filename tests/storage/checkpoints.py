"""Small real checkpoints for tests, written by the product's own code, without torch.

`from relight.tests.storage.checkpoints import save`
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from relight.storage.arrangement import plan
from relight.storage.catalog import Catalog
from relight.storage.commit import SaveJob
from relight.storage.layout import AttemptId
from relight.storage.manifest import Progress
from relight.storage.persist import Outcome, persist
from relight.storage.retention import Rules
from relight.storage.shards import Piece

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relight.storage.backends.base import Backend
    from relight.storage.manifest import Manifest

ROWS: Final = 12
COLUMNS: Final = 3


def attempt_id(step: int, generation: int = 1, attempt: int = 1, nonce: str = "00abcd") -> AttemptId:
    return AttemptId(step, generation, attempt, nonce)


def job(id: AttemptId, rank: int = 0, world_size: int = 2, keep_last: int = 3, **changes: Any) -> SaveJob:  # noqa: A002
    values: dict[str, Any] = {
        "id": id,
        "run": "a-run",
        "token": "a-token",
        "rank": rank,
        "world_size": world_size,
        "progress": Progress(epoch=0, step=id.step, samples=id.step * 8, loss=0.5),
        "deadline_s": 20.0,
        "rules": Rules(keep_last=keep_last),
    }
    return SaveJob(**(values | changes))


def shard(step: int, rank: int = 0, world_size: int = 2) -> memoryview:
    """A rank's rows of one global tensor that depends on the step alone, and a tensor of its own."""
    first, last = (ROWS * number // world_size for number in (rank, rank + 1))
    rows = Piece("model/weight", "F32", (last - first, COLUMNS), (ROWS, COLUMNS), (first, 0))
    own = Piece.whole(f"rank-{rank:05d}/rng", "U8", (16,))
    state = {f"rank-{rank:05d}": {"position": rank}} | ({"progress": {"step": step}} if rank == 0 else {})
    layout = plan([rows, own], state)
    data = bytearray(layout.size)
    data[: len(layout.header)] = layout.header
    for placed in layout.placed:
        piece = placed.piece
        if piece is own:
            content = random.Random(step * 100 + rank).randbytes(piece.size)
        else:
            content = random.Random(step).randbytes(ROWS * COLUMNS * 4)[first * COLUMNS * 4 : last * COLUMNS * 4]
        data[placed.start : placed.start + piece.size] = content
    return memoryview(data)


def persist_rank(backend: Backend, step_id: AttemptId, rank: int, world_size: int = 2, **changes: Any) -> Outcome:
    return persist(backend, job(step_id, rank, world_size, **changes), shard(step_id.step, rank, world_size))


def save(backend: Backend, step_id: AttemptId, world_size: int = 2) -> Manifest:
    """All ranks one after the other, rank 0 last; the committed manifest."""
    for rank in reversed(range(world_size)):
        outcome = persist_rank(backend, step_id, rank, world_size)
        assert not outcome.failed, outcome.failed
    assert outcome.committed
    return Catalog(backend).find(step_id.step).manifest


def steps(backend: Backend) -> list[int]:
    """The steps that may be resumed from, best first."""
    return [checkpoint.step for checkpoint in Catalog(backend).committed()]


def names(ids: Iterable[AttemptId]) -> list[tuple[int, int, int]]:
    return [(each.step, each.generation, each.attempt) for each in ids]
