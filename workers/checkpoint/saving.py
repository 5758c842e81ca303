"""Going out: stage the state into the arena, hand it to the persister, and tell what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...storage.checksum import digest
from ...storage.commit import SaveJob
from ...storage.layout import AttemptId
from ...storage.manifest import Number
from ...storage.manifest import Progress as ProgressRecord
from ...storage.persister import Outcome, Persister
from ...storage.retention import Rules
from ...storage.shards import Piece, ShardLayout, plan
from .arena import Arena, box_of
from .collective import Circle
from .plan import share
from .progress import Progress
from .state import Captured, spec_of
from .tree import Tensors


@dataclass(frozen=True, slots=True)
class Lineage:
    """Under whose name this worker group writes. `token` is random and shared by its ranks."""

    run: str
    generation: int
    attempt: int
    token: str
    resumed_from: AttemptId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveSettings:
    """`deadline_s` bounds the wait for all ranks' shards, `rules` say which checkpoints retention leaves."""

    deadline_s: float = 300.0
    rules: Rules = field(default_factory=Rules)


class Saver:
    """One rank's side of saving. Knows nothing of when to save or of what the ranks agreed on."""

    def __init__(self, persister: Persister, circle: Circle, lineage: Lineage, settings: SaveSettings) -> None:
        self._persister = persister
        self._circle = circle
        self._lineage = lineage
        self._settings = settings
        self._arena = Arena()
        self._header_bytes = 0
        self._count = 0

    @property
    def busy(self) -> bool:
        return self._persister.busy

    def save(self, captured: Captured, progress: Progress) -> None:
        """Stage and submit. Never while busy."""
        self._count += 1
        layout, sources = self._layout(captured)
        view = self._arena.stage(layout, lambda piece: box_of(sources[piece.name], piece))
        self._persister.submit(self._job(progress), view)

    def _layout(self, captured: Captured) -> tuple[ShardLayout, Tensors]:
        """This rank's shard, and the live tensors that its pieces are cut from."""
        pieces = share(captured.specs(), self._circle.rank, self._circle.size)
        for name, tensor in captured.own_tensors.items():
            spec = spec_of(name, tensor)
            pieces.append(Piece.whole(name, spec.dtype, spec.shape))
        state = captured.own_state | (captured.state if self._circle.rank == 0 else {})
        layout = plan(pieces, state, min_header_bytes=self._header_bytes)
        # A header never shrinks again, so that the tensors stay where they are and the arena's pages stay warm.
        self._header_bytes = len(layout.header)
        return layout, captured.tensors | captured.own_tensors

    def _job(self, progress: Progress) -> SaveJob:
        lineage = self._lineage
        # Counted, so that of two saves of one step (the second knows the last evaluation) the later one is the newer.
        nonce = f"{self._count % 0x1000:03x}{digest(lineage.token.encode())[:3]}"
        return SaveJob(
            id=AttemptId(progress.step, lineage.generation, lineage.attempt, nonce),
            run=lineage.run,
            token=lineage.token,
            rank=self._circle.rank,
            world_size=self._circle.size,
            progress=_record(progress),
            deadline_s=self._settings.deadline_s,
            rules=self._settings.rules,
            protected=(lineage.resumed_from,) if lineage.resumed_from else (),
        )

    def heard(self, failed_step: int) -> None:
        """A rank has voted that its part of the save of `failed_step` will not come: stop waiting for it."""
        reason = "another rank could not write its shard, nor say why in the storage. See that rank's log"
        self._persister.cancel(failed_step, f"step {failed_step}: {reason}")

    def outcome(self) -> Outcome | None:
        """What came of the last save, once."""
        return self._persister.outcome()

    def wait(self, timeout_s: float) -> bool:
        return self._persister.wait(timeout_s)

    def close(self) -> None:
        self._persister.close()


def _record(progress: Progress) -> ProgressRecord:
    return ProgressRecord(
        epoch=progress.epoch,
        step=progress.step,
        samples=progress.samples,
        loss=None if progress.loss is None else _number(progress.loss),
        metrics={name: _number(value) for name, value in progress.metrics.items()},
    )


def _number(value: float) -> Number:
    """JSON has no infinities; a loss may be one."""
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
