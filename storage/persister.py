"""The persister: takes staged bytes off the trainer's hands and makes them durable while training goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from .backends.open import open_backend
from .commit import SaveJob
from .errands import Errand, Errands
from .layout import AttemptId
from .mappings import Identity, identity_of
from .persist import Outcome
from .persister_process import ProcessPersister
from .staged import Staged

__all__ = ["Outcome", "Persister", "ThreadPersister", "open_persister"]


class Persister(Protocol):
    """Seals and persists staged shards elsewhere. All methods are called by the trainer's main thread.

    Nothing blocks but `wait` and `close`, and nothing raises for the storage's or the persister's sake: what goes
    wrong with a save is its outcome.
    """

    def prepare(self) -> None:
        """Make ready for the first of the calls below, which does so by itself otherwise."""

    def submit(self, job: SaveJob, staged: Staged) -> None:
        """Persist it, after what was submitted before, and seal it as soon as its blocks are hashed."""

    def keep(self, job: SaveJob, staged: Staged) -> None:
        """Seal it at once, whatever is being persisted: a snapshot in memory, which is never durable."""

    @property
    def busy(self) -> bool:
        """Whether the outcome of any save is not known yet. Tidying up after it may go on, before the next one."""

    def holds(self, descriptor: int) -> bool:
        """Whether the memory behind the trainer's `descriptor` is still read, so that it must stay as it is."""

    def outcome(self) -> Outcome | None:
        """The next outcome of a save that was not taken yet, in the order of the saves; None when there is none."""

    def cancel(self, step: int, reason: str) -> None:
        """Stop waiting for the other ranks' part of the saves of `step` so far, which will not come.

        A save that has got past the waiting, or of another step, goes on.
        """

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing more is done for any save, tidying up included; False when that took too long."""

    def close(self) -> None:
        """Let everything under way come to its end, and leave nothing behind. A later `submit` begins anew."""


def open_persister(url: str, *, rank: int) -> Persister:
    """The persister of this rank for the storage at `url`: a process, where the storage can be reached from one.

    Raises BadUrl when `url` cannot be served.
    """
    # `memory://` is this process's memory: what another one put there would be seen by nobody.
    if url.startswith("memory:"):
        return ThreadPersister(url)
    return ProcessPersister(open_backend(url).url, rank=rank)


class ThreadPersister:
    """Persists in threads of the trainer. What is under way is lost with the process; no commit is ever half done.

    Raises BadUrl when `url` cannot be served.
    """

    def __init__(self, url: str) -> None:
        self._errands = Errands(open_backend(url), self)
        self._outcomes: deque[Outcome] = deque()
        self._numbers = 0
        self._held: dict[int, Identity] = {}
        """The memory that is read, by the number of the errand."""

    def prepare(self) -> None:
        pass

    def submit(self, job: SaveJob, staged: Staged) -> None:
        self._add(job, staged, durable=True)

    def keep(self, job: SaveJob, staged: Staged) -> None:
        self._add(job, staged, durable=False)

    def _add(self, job: SaveJob, staged: Staged, *, durable: bool) -> None:
        self._numbers += 1
        self._held[self._numbers] = identity_of(staged.descriptor)
        self._errands.add(
            Errand(number=self._numbers, job=job, view=lambda: staged.view, seal=staged.seal, durable=durable)
        )

    def released(self, errand: Errand) -> None:
        del self._held[errand.number]

    def ended(self, _: Errand, outcome: Outcome) -> None:
        self._outcomes.append(outcome)

    def finished(self, errand: Errand, deleted: Sequence[AttemptId]) -> None:
        pass

    @property
    def busy(self) -> bool:
        return any(not errand.ended for errand in self._errands.saves)

    def holds(self, descriptor: int) -> bool:
        return identity_of(descriptor) in list(self._held.values())

    def outcome(self) -> Outcome | None:
        return self._outcomes.popleft() if self._outcomes else None

    def cancel(self, step: int, reason: str) -> None:
        for errand in self._errands.saves:
            if errand.job.id.step == step:
                errand.call_off(reason)

    def wait(self, timeout_s: float) -> bool:
        return self._errands.wait(timeout_s)

    def close(self) -> None:
        self._errands.close()
