"""The persister: takes staged bytes off the trainer's hands and makes them durable while training goes on."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from . import sweep
from .backends.base import Backend
from .backends.open import open_backend
from .commit import Pause, SaveJob, commit, gather_receipts, write_failure, write_shard
from .errors import StorageError, Superseded

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

    def submit(self, job: SaveJob, data: memoryview) -> None:
        if self.busy:
            message = "a save is still being persisted"
            raise RuntimeError(message)
        self._outcomes.clear()
        self._thread = threading.Thread(target=self._run, args=(job, data), name="relight-persister", daemon=True)
        self._thread.start()

    def _run(self, job: SaveJob, data: memoryview) -> None:
        try:
            outcome = persist(self._backend, job, data)
        except Exception as error:  # noqa: BLE001  (without an outcome the trainer would never hear of this save)
            _log.exception("the save of step %d met a bug", job.id.step)
            outcome = Outcome(job.id.step, failed=f"{type(error).__name__}: {error}")
        self._outcomes.append(outcome)
        if outcome.committed:
            sweep.tidy(self._backend, job.id, keep_last=job.keep_last, protected=job.protected)

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


def persist(backend: Backend, job: SaveJob, data: memoryview, *, pause: Pause = _pause) -> Outcome:
    """One rank's whole part of a save, to its end. Never raises for storage's reasons: a failed save is an outcome."""
    step = job.id.step
    try:
        write_shard(backend, job, data)
        if job.rank != 0:
            return Outcome(step)
        commit(backend, job, gather_receipts(backend, job, pause=pause))
    except Superseded as error:
        return Outcome(step, failed=str(error), superseded=True)
    except StorageError as error:
        _give_up(backend, job, str(error))
        return Outcome(step, failed=str(error))
    return Outcome(step, committed=True)


def _give_up(backend: Backend, job: SaveJob, reason: str) -> None:
    """Rank 0 clears the attempt away. Another rank only says so: rank 0 may have seen its receipt, and decides."""
    if job.rank == 0:
        sweep.give_up(backend, job.id)
        return
    with contextlib.suppress(StorageError):  # The storage is in trouble. Unheard, rank 0 gives up at its deadline.
        write_failure(backend, job, reason)
