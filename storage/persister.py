"""The persister: takes staged bytes off the trainer's hands and makes them durable while training goes on."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from . import generations, sweep
from .backends.base import Backend
from .backends.open import open_backend
from .commit import Pause, SaveJob, commit, gather_receipts, write_failure, write_shard
from .errors import SaveFailed, StorageError, Superseded
from .layout import AttemptId

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rank's part of a save ended.

    `committed` is known to rank 0 alone: the other ranks' part ends with their receipt. `failed` is empty on success.
    """

    step: int
    committed: bool = False
    failed: str = ""
    superseded: bool = False


class Persister(Protocol):
    """Persists one job at a time, elsewhere. All methods are called by the trainer's main thread."""

    def submit(self, job: SaveJob, data: memoryview) -> None:
        """Start persisting; `data` must stay as it is until `busy` is False. Raises RuntimeError when busy."""

    @property
    def busy(self) -> bool: ...

    def outcome(self) -> Outcome | None:
        """The outcome of the last job, once: None while it is under way and after it was taken."""

    def cancel(self, step: int, reason: str) -> None:
        """Stop waiting for the other ranks' part of the save of `step`, which will not come. Never blocks.

        A save that has got past the waiting, or another than that of `step`, goes on.
        """

    def wait(self, timeout_s: float) -> bool:
        """Wait until not busy; False when that took too long."""

    def close(self) -> None:
        """Let the job under way come to its end."""


class ThreadPersister:
    """Persists in a thread of the trainer. The bytes of a save are lost with the process, the commit protocol is not.

    Raises BadUrl when `url` cannot be served.
    """

    def __init__(self, url: str) -> None:
        self._backend = open_backend(url)
        self._thread: threading.Thread | None = None
        self._outcomes: deque[Outcome] = deque()
        self._step = -1
        self._cancelled = threading.Event()
        self._reason = ""
        self._own: set[AttemptId] = set()
        """What this persister has committed and not deleted."""

    def submit(self, job: SaveJob, data: memoryview) -> None:
        if self.busy:
            message = "a save is still being persisted"
            raise RuntimeError(message)
        self._outcomes.clear()
        self._cancelled.clear()
        self._step = job.id.step
        self._thread = threading.Thread(target=self._run, args=(job, data), name="relight-persister", daemon=True)
        self._thread.start()

    def _run(self, job: SaveJob, data: memoryview) -> None:
        try:
            outcome = persist(self._backend, job, data, pause=self._pause, own=self._own)
        except Exception as error:  # noqa: BLE001  (without an outcome the trainer would never hear of this save)
            _log.exception("the save of step %d met a bug", job.id.step)
            outcome = Outcome(job.id.step, failed=f"{type(error).__name__}: {error}")
        self._outcomes.append(outcome)
        if outcome.committed:
            self._own.add(job.id)
            deleted = sweep.maintain(self._backend, job.id, job.rules, protected=job.protected, own=self._own)
            self._own.difference_update(deleted)

    def cancel(self, step: int, reason: str) -> None:
        if step == self._step and not self._cancelled.is_set():
            self._reason = reason
            self._cancelled.set()

    def _pause(self, seconds: float) -> None:
        """Between two looks for receipts. There is one more look after a cancel: the reason may have arrived."""
        if self._cancelled.is_set():
            raise SaveFailed(self._reason)
        self._cancelled.wait(seconds)

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def outcome(self) -> Outcome | None:
        return self._outcomes.popleft() if self._outcomes else None

    def wait(self, timeout_s: float) -> bool:
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.busy

    def close(self) -> None:
        if self._thread is not None:
            self._thread.join()


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def persist(
    backend: Backend, job: SaveJob, data: memoryview, *, pause: Pause = _pause, own: Collection[AttemptId] = ()
) -> Outcome:
    """One rank's whole part of a save, to its end. Never raises for storage's reasons: a failed save is an outcome.

    `pause` may raise SaveFailed to end the wait for the other ranks; `own`: see `sweep.maintain`.
    """
    step = job.id.step
    try:
        write_shard(backend, job, data)
        if job.rank != 0:
            return Outcome(step)
        commit(backend, job, gather_receipts(backend, job, pause=pause))
    except Superseded as error:
        return Outcome(step, failed=str(error), superseded=True)
    except StorageError as error:
        _give_up(backend, job, str(error), own)
        return _failed(backend, job, str(error))
    return Outcome(step, committed=True)


def _failed(backend: Backend, job: SaveJob, reason: str) -> Outcome:
    """A newer launcher sweeps away what an older one is writing: then that is why, and not the file that is missing."""
    with contextlib.suppress(StorageError):
        try:
            generations.refuse_if_superseded(backend, job.id.generation)
        except Superseded as error:
            return Outcome(job.id.step, failed=str(error), superseded=True)
    return Outcome(job.id.step, failed=reason)


def _give_up(backend: Backend, job: SaveJob, reason: str, own: Collection[AttemptId]) -> None:
    """Rank 0 clears the attempt away. Another rank only says so: rank 0 may have seen its receipt, and decides."""
    if job.rank == 0:
        sweep.give_up(backend, job.id, own=own)
        return
    try:
        write_failure(backend, job, reason)
    except StorageError:  # Unheard through the storage, rank 0 is told that it failed, but not why: so here.
        _log.warning("rank %d could not write its shard of step %d: %s", job.rank, job.id.step, reason)
