"""The lives of a run whose every step on disk is recorded: two ranks that save, fail, are killed, and start again.

`from relight.tests.crash.lives import Life`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relight.storage import generations, runs, sweep
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.persist import persist
from relight.storage.retention import Rules
from relight.tests.crash.conductor import Conductor
from relight.tests.crash.recording import Recorder, RecordingDisk
from relight.tests.storage.checkpoints import attempt_id, job, shard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relight.storage.layout import AttemptId

    Gate = Callable[[], None]

JOURNAL_KEY: Final = "journal/here.jsonl"
KEEP_LAST: Final = 2
IDENTITY: Final[runs.Identity] = {"task": "digits", "seed": 0}


@dataclass(frozen=True, slots=True)
class Registered:
    run: str


@dataclass(frozen=True, slots=True)
class Claimed:
    number: int


@dataclass(frozen=True, slots=True)
class Committed:
    """Rank 0 was told that this checkpoint is durable."""

    id: AttemptId


@dataclass(frozen=True, slots=True)
class Journalled:
    """The journal, which is overwritten as a whole, has at least this many lines."""

    lines: int


class Life:
    """One worker group of two ranks, each with the backend of its own process."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        seed: int = 0,
        disk: type[RecordingDisk] = RecordingDisk,
        backend: type[LocalBackend] = LocalBackend,
    ) -> None:
        self.recorder = recorder
        self.gates = 0
        """Steps that were taken so far."""
        recorder.base.mkdir(exist_ok=True)
        self._seed = seed
        self._disks = [disk(recorder), disk(recorder)]
        self._backends = [backend(root_of(recorder.base), each) for each in self._disks]

    def start(self, incarnation: str, *, rivals: bool = True, kill_at: int | None = None) -> bool:
        """Register, choose and claim; with `rivals` two launchers at once. False when killed before the end."""

        def begin(rank: int) -> None:
            backend = self._backends[rank]
            self.recorder.mark(Registered(runs.register(backend, IDENTITY).run))
            newest = next(Catalog(backend).committed(), None)
            resumed_from = newest.step if newest else None
            name = f"{incarnation}-{rank}"
            claim = generations.claim(backend, incarnation=name, resumed_from=resumed_from, host="here")
            self.recorder.mark(Claimed(claim.number))

        return self._perform(begin, kill_at, ranks=2 if rivals else 1)

    def save(self, id: AttemptId, *, fails: bool = False, kill_at: int | None = None) -> bool:  # noqa: A002
        """Both ranks save at once, rank 0 tidies afterwards; with `fails` rank 1's data cannot be written."""

        def act(rank: int) -> None:
            work = job(id, rank, keep_last=KEEP_LAST)
            backend = self._backends[rank]
            data = shard(id.step, rank)
            if fails and rank == 1:
                backend.put(id.receipt_key(1), b"")  # Damage, which rank 0 takes for a failure.
                backend.put(id.shard_key(1, 2), data)  # Too late: rank 0 may have cleared the attempt away.
                return
            outcome = persist(backend, work, data, pause=lambda _: self._disks[rank].gate())
            if outcome.committed:
                self.recorder.mark(Committed(id))
                sweep.maintain(backend, id, Rules(keep_last=KEEP_LAST))
            elif outcome.failed and not fails:
                raise AssertionError(outcome.failed)

        return self._perform(act, kill_at)

    def journal(self, lines: int) -> None:
        """The launcher writes its journal anew, one line longer each time."""
        backend = self._backends[0]
        self._disks[0].gate = lambda: None
        backend.put(JOURNAL_KEY, b"a line of the journal\n" * lines, overwrite=True)
        self.recorder.mark(Journalled(lines))

    def _perform(self, act: Callable[[int], None], kill_at: int | None, ranks: int = 2) -> bool:
        def perform(rank: int) -> Callable[[Gate], None]:
            def with_gate(gate: Gate) -> None:
                self._disks[rank].gate = gate
                act(rank)

            return with_gate

        self._seed += 1
        conductor = Conductor(self._seed, kill_at=kill_at)
        finished = conductor.perform(*map(perform, range(ranks)))
        self.gates += conductor.gates
        return finished


def root_of(base: Path) -> Path:
    return base / "runs" / "digits"


def whole_story(recorder: Recorder, seed: int, **broken: type) -> None:
    """First save, later save, failed save, retention, a kill in mid-save, rival launchers, sweep."""
    first = Life(recorder, seed=seed, **broken)
    first.start("one")
    for step in (10, 20):
        first.save(attempt_id(step, generation=2))
        first.journal(step // 10)
    first.save(attempt_id(30, generation=2), fails=True)
    first.save(attempt_id(40, generation=2))
    first.save(attempt_id(50, generation=2), kill_at=20)
    second = Life(recorder, seed=seed + 100, **broken)
    second.start("two")
    second.save(attempt_id(60, generation=4))
