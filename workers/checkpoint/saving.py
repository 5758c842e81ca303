"""Going out: stage the state into an arena, hand it to the persister, and tell what came of it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...storage.checksum import digest
from ...storage.commit import SaveJob
from ...storage.layout import AttemptId
from ...storage.manifest import Number
from ...storage.manifest import Progress as ProgressRecord
from ...storage.persist import Outcome
from ...storage.persister import Persister
from ...storage.retention import Rules
from ...storage.staged import Staged
from ..notices import say
from .arenas import Arena, Arenas
from .collective import Circle
from .progress import Progress
from .staging import Copier, Planner, work
from .state import Captured

_LOOK_S = 0.002
_NO_ARENA_S = 60.0


@dataclass(frozen=True, slots=True)
class Lineage:
    """Under whose name this worker group writes, and where. `token` is random and shared by its ranks."""

    run: str
    generation: int
    attempt: int
    token: str
    resumed_from: AttemptId | None
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveSettings:
    """`deadline_s` bounds the wait for all ranks' shards, `rules` say which checkpoints retention leaves.

    `arenas`: how many buffers; `memory_dir`: where they are found again, None for nowhere; `copy_threads`: how many may
    copy at once; `overlap`: copy what only the optimizer changes behind the next forward and backward.
    """

    deadline_s: float = 300.0
    rules: Rules = field(default_factory=Rules)
    arenas: int = 2
    memory_dir: Path | None = None
    copy_threads: int = 1
    overlap: bool = False


class Saver:
    """One rank's side of saving. Knows nothing of when to save or of what the ranks agreed on."""

    def __init__(self, persister: Persister, circle: Circle, lineage: Lineage, settings: SaveSettings) -> None:
        self._persister = persister
        self._circle = circle
        self._lineage = lineage
        self._settings = settings
        self._arenas = Arenas(settings.arenas, circle.rank, settings.memory_dir, persister.holds)
        self._planner = Planner(circle.rank, circle.size)
        self._copier = Copier(settings.copy_threads)
        self._unfinished: Callable[[], None] | None = None
        self._lost: deque[Outcome] = deque()
        self._count = 0
        self._keeps = True
        self._heard_of = -1

    @property
    def lineage(self) -> Lineage:
        return self._lineage

    @property
    def busy(self) -> bool:
        return self._unfinished is not None or self._persister.busy

    @property
    def full(self) -> bool:
        """There is no arena for another save."""
        return not self._arenas.has_free()

    @property
    def keeps(self) -> bool:
        """Whether what is copied in memory could be found by a worker that comes back, and tears nothing older."""
        return self._keeps and self._arenas.survive and self._settings.arenas > 1

    def prepare(self, captured: Captured) -> None:
        """Have what the first save needs made behind the training: the persister's process, and memory."""
        self._persister.prepare()
        self._arenas.prepare(self._planner.layout(captured).size)

    def save(self, captured: Captured, progress: Progress) -> None:
        """Stage and submit. Needs a free arena sooner or later; without memory for one the save has failed."""
        self._count += 1
        try:
            self._stage(captured, progress, self._persister.submit)
        except OSError as error:
            reason = f"rank {self._circle.rank} has no memory to stage its shard in: {error}"
            self._lost.append(Outcome(progress.step, failed=reason))

    def keep(self, captured: Captured, progress: Progress) -> None:
        """Stage in memory alone, unless there is no arena free for it now."""
        if self.full:
            return
        try:
            self._stage(captured, progress, self._persister.keep)
        except OSError as error:
            self._keeps = False
            say(f"rank {self._circle.rank} keeps no more copies of its state in memory: {error}")

    def _stage(self, captured: Captured, progress: Progress, hand_over: Callable[[SaveJob, Staged], None]) -> None:
        self.finish_staging()
        job = self._job(progress)
        layout = self._planner.layout(captured)
        arena = self._take(layout.size)
        if captured.is_on_gpu:
            arena.pin()
        todo = work(arena, layout, captured, captured.waits_for_step if self._settings.overlap else _nothing)
        self._copier.copy(todo.now)
        if not todo.later:
            hand_over(job, arena.staged(layout.size))
            return
        copied = self._copier.begin(todo.later)

        def finish() -> None:
            copied()
            hand_over(job, arena.staged(layout.size))

        self._unfinished = finish

    def finish_staging(self) -> None:
        """Wait for the copy that was left behind: before anything changes what is being copied."""
        if self._unfinished is not None:
            finish, self._unfinished = self._unfinished, None
            finish()

    def _take(self, size: int) -> Arena:
        """Hashing a copy in memory may still hold the last free arena for a moment."""
        deadline = time.monotonic() + _NO_ARENA_S
        while (arena := self._arenas.take(size)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError("all arenas are in use")
            threading.Event().wait(_LOOK_S)
        return arena

    def _job(self, progress: Progress) -> SaveJob:
        lineage = self._lineage
        # Counted, so that of two saves of one step (the second knows the last evaluation) the later one is the newer.
        # Copies in memory are not: one rank may leave out what another makes, and all must write into one attempt.
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
        if failed_step == self._heard_of:
            return
        self._heard_of = failed_step
        reason = "another rank could not write its shard, nor say why in the storage. See that rank's log"
        self._persister.cancel(failed_step, f"step {failed_step}: {reason}")

    def outcome(self) -> Outcome | None:
        """What came of a save, each once and in order."""
        return self._lost.popleft() if self._lost else self._persister.outcome()

    def wait(self, timeout_s: float) -> bool:
        """Wait until not busy; False when that took too long."""
        self.finish_staging()
        return self._persister.wait(timeout_s)

    def close(self) -> None:
        self.finish_staging()
        self._persister.close()


def _nothing(_name: str) -> bool:
    return False


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
