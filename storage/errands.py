"""What a persister is given to do, and the two threads that do it: one saves, in order; one seals, at once."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from . import checksum, living, sweep
from .backends.base import Backend
from .commit import SaveJob
from .errors import SaveFailed
from .layout import AttemptId
from .persist import Outcome, Watch, persist
from .receipts import Receipt
from .staged import Seal

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Errand:
    """One staged shard to be sealed and, if `durable`, persisted. `view` gives its bytes, `seal` says where.

    `sealed` is true as well when it could not be sealed, or was not to be: nothing more will come.
    """

    number: int
    job: SaveJob
    view: Callable[[], memoryview]
    seal: Path | None
    durable: bool
    sealed: bool = False
    ended: bool = False
    readers: set[str] = field(default_factory=set)
    """The threads that have not done with the memory."""
    reason: str = ""
    """Why nobody waits for the other ranks any more."""
    called_off: threading.Event = field(default_factory=threading.Event)
    looked_again: bool = False

    def call_off(self, reason: str) -> None:
        if not self.called_off.is_set():
            self.reason = reason
            self.called_off.set()

    def pause(self, seconds: float) -> None:
        """Between two looks for receipts. There is a whole look after a call off: the last ones may have arrived."""
        if self.looked_again:
            raise SaveFailed(self.reason)
        self.looked_again = self.called_off.wait(seconds)


class Listener(Protocol):
    """Whoever gave the errands. Told by the threads that do them, in this order."""

    def released(self, errand: Errand) -> None:
        """Its memory is not read any more, and not sealed any more either."""

    def ended(self, errand: Errand, outcome: Outcome) -> None:
        """A save's outcome; the tidying comes after it."""

    def finished(self, errand: Errand, deleted: Sequence[AttemptId]) -> None:
        """Nothing more is done for this save; `deleted` are the checkpoints that retention let go."""


class Errands:
    """Does errands. `own` is what this worker group has committed and not deleted: see `sweep.maintain`."""

    def __init__(self, backend: Backend, listener: Listener, own: Collection[AttemptId] = ()) -> None:
        self._backend = backend
        self._listener = listener
        self._own = set(own)
        self._changed = threading.Condition()
        self._under_way: list[Errand] = []
        self._saving = _Line("relight-save", self._save)
        self._sealing = _Line("relight-seal", self._seal_now)

    def add(self, errand: Errand) -> None:
        with self._changed:
            queues = errand.durable and any(other.durable for other in self._under_way)
            self._under_way.append(errand)
            lines = [self._saving] if errand.durable else []
            if queues or not errand.durable:  # A save that has to wait for another is not left unsealed meanwhile.
                lines.insert(0, self._sealing)
            errand.readers.update(line.name for line in lines)
        for line in lines:
            line.put(errand)

    def call_off(self, number: int | None, reason: str) -> None:
        """Stop waiting for the other ranks' part of the save of that number or, with None, of every save."""
        with self._changed:
            meant = [errand for errand in self._under_way if number in {None, errand.number}]
        for errand in meant:
            errand.call_off(reason)

    @property
    def saves(self) -> list[Errand]:
        """Those under way."""
        with self._changed:
            return [errand for errand in self._under_way if errand.durable]

    def wait_sealed(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that was added is sealed; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: all(errand.sealed for errand in self._under_way), timeout_s)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that was added is done; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way, timeout_s)

    def close(self) -> None:
        """Do what was added, and end the threads. The next `add` starts them anew."""
        self._saving.close()
        self._sealing.close()

    def _save(self, errand: Errand) -> None:
        deleted: Sequence[AttemptId] = ()
        watch = Watch(
            hashed=lambda receipt: self._seal(errand, receipt),
            released=lambda: self._release(errand, self._saving),
            ended=lambda outcome: self._end(errand, outcome),
        )
        with self._leaving(errand):
            try:
                view = errand.view()
                outcome = persist(self._backend, errand.job, view, pause=errand.pause, own=self._own, watch=watch)
                if outcome.committed:
                    deleted = self._tidy(errand.job)
            except Exception as error:  # noqa: BLE001  # Without an outcome the trainer would never hear of this save.
                _log.exception("the save of step %d met a bug", errand.job.id.step)
                self._release(errand, self._saving)
                self._end(errand, Outcome(errand.job.id.step, failed=f"{type(error).__name__}: {error}"))
            self._listener.finished(errand, deleted)

    def _tidy(self, job: SaveJob) -> Sequence[AttemptId]:
        self._own.add(job.id)
        deleted = sweep.maintain(
            self._backend,
            job.id,
            job.rules,
            protected=job.protected,
            own=self._own,
            # A worker that went on from memory has not waited for the persisters of those before it.
            spare_unfinished=bool(living.predecessors(self._backend.url)),
        )
        self._own.difference_update(deleted)
        return deleted

    def _seal_now(self, errand: Errand) -> None:
        with contextlib.nullcontext() if errand.durable else self._leaving(errand):
            if not errand.sealed:
                try:
                    view = errand.view()
                    receipt = Receipt(rank=errand.job.rank, size=len(view), blocks=checksum.hash_blocks(view))
                    self._seal(errand, receipt)
                except Exception:  # noqa: BLE001  # The thread has to live: the next snapshot may be one that can be sealed.
                    _log.exception("the snapshot of step %d met a bug", errand.job.id.step)
            self._release(errand, self._sealing)

    def _seal(self, errand: Errand, receipt: Receipt) -> None:
        if errand.seal is not None and not errand.sealed:
            try:
                Seal.of(errand.job, receipt).write(errand.seal)
            except OSError as error:  # The save itself does not need it.
                _log.warning("the memory of step %d cannot be sealed: %s", errand.job.id.step, error)
        with self._changed:
            errand.sealed = True
            self._changed.notify_all()

    def _release(self, errand: Errand, line: _Line) -> None:
        with self._changed:
            was_the_last = errand.readers == {line.name}
            errand.readers.discard(line.name)
        if was_the_last:
            self._listener.released(errand)

    def _end(self, errand: Errand, outcome: Outcome) -> None:
        if not errand.ended:
            errand.ended = True
            self._listener.ended(errand, outcome)

    @contextlib.contextmanager
    def _leaving(self, errand: Errand) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._under_way.remove(errand)
                self._changed.notify_all()


class _Line:
    """Errands one after the other, in a thread that is there while it may be needed and never keeps a process alive."""

    def __init__(self, name: str, act: Callable[[Errand], None]) -> None:
        self.name = name
        self._act = act
        self._waiting: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, errand: Errand) -> None:
        self._waiting.put(errand)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (errand := self._waiting.get()) is not None:
            self._act(errand)

    def close(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
