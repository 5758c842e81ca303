"""One rank's part of a save, from staged bytes to its end, and what is said of it. Where it runs is not known here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

from . import generations, living, sweep
from .backends.base import Backend
from .commit import Pause, SaveJob, commit, gather_receipts, write_failure, write_shard
from .errors import StorageError, Superseded
from .layout import AttemptId
from .receipts import Receipt

_log = logging.getLogger(__name__)

_QUICK_S: Final = 2.0
"""How long the report of a failure may wait for the answer whether a newer launcher is behind it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rank's part of a save ended.

    `committed` is known to rank 0 alone: the other ranks' part ends with their receipt. `failed` is empty on success.
    `took_s`: from staged bytes to this.
    """

    step: int
    committed: bool = False
    failed: str = ""
    superseded: bool = False
    took_s: float = field(default=0.0, compare=False)


def _unheard(_: object = None) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who is told how a save goes on, in this order, by the thread that persists it.

    `hashed`: every block's checksum is known. `released`: the staged bytes are not read any more. `ended`: how it
    ended; what a failed save left is cleared away only after that, because it may take long and the trainer waits.
    """

    hashed: Callable[[Receipt], None] = _unheard
    released: Callable[[], None] = _unheard
    ended: Callable[[Outcome], None] = _unheard


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def persist(
    backend: Backend,
    job: SaveJob,
    data: memoryview,
    *,
    pause: Pause = _pause,
    own: Collection[AttemptId] = (),
    watch: Watch = Watch(),
) -> Outcome:
    """One rank's whole part of a save, to its end. Never raises for storage's reasons: a failed save is an outcome.

    `pause` may raise SaveFailed to end the wait for the other ranks; `own`: see `sweep.maintain`.
    """
    began = time.monotonic()
    outcome = _outcome(backend, job, data, pause, watch)
    outcome = replace(outcome, took_s=time.monotonic() - began)
    watch.ended(outcome)
    if outcome.failed and not outcome.superseded:
        _give_up(backend, job, outcome.failed, own)
    return outcome


def _outcome(backend: Backend, job: SaveJob, data: memoryview, pause: Pause, watch: Watch) -> Outcome:
    step = job.id.step
    try:
        try:
            write_shard(backend, job, data, on_hashed=watch.hashed)
        finally:
            watch.released()
        if job.rank != 0:
            return Outcome(step)
        commit(backend, job, gather_receipts(backend, job, pause=pause))
    except Superseded as error:
        return Outcome(step, failed=str(error), superseded=True)
    except StorageError as error:
        newer = _newer_launcher(backend, job)
        return Outcome(step, failed=newer or str(error), superseded=bool(newer))
    return Outcome(step, committed=True)


def _newer_launcher(backend: Backend, job: SaveJob) -> str:
    """A newer launcher sweeps away what an older one is writing: then that is why, and not the file that is missing.

    Storage that has just failed may not answer for long. The trainer hears of the failure without, then: its next
    commit asks again.
    """
    found: list[str] = []

    def ask() -> None:
        try:
            generations.refuse_if_superseded(backend, job.id.generation)
        except Superseded as error:
            found.append(str(error))
        except StorageError:
            _log.debug("could not ask %s for a newer launcher", backend.url)

    asking = threading.Thread(target=ask, name="relight-superseded", daemon=True)
    asking.start()
    asking.join(_QUICK_S)
    return found[0] if found else ""


def _give_up(backend: Backend, job: SaveJob, reason: str, own: Collection[AttemptId]) -> None:
    """Rank 0 clears the attempt away. Another rank only says so: rank 0 may have seen its receipt, and decides."""
    if job.rank == 0:
        sweep.give_up(backend, job.id, own=own, spare_unfinished=bool(living.predecessors(backend.url)))
        return
    try:
        write_failure(backend, job, reason)
    except StorageError:  # Unheard through the storage, rank 0 is told that it failed, but not why: so here.
        _log.warning("rank %d could not write its shard of step %d: %s", job.rank, job.id.step, reason)
