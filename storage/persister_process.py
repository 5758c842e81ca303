"""The trainer's side of a persister in a process of its own: it outlives the trainer, and shares no GIL with it."""

from __future__ import annotations

import contextlib
import logging
import select
import time
import weakref
from collections import deque
from dataclasses import dataclass

from . import messages
from .commit import SaveJob
from .layout import AttemptId
from .mappings import Identity, identity_of
from .persist import Outcome
from .persister_life import Life
from .staged import Staged

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Errand:
    """What this side knows of one. A snapshot has no outcome, and nothing is done for it once it is released."""

    id: AttemptId
    memory: Identity
    ended: bool
    finished: bool
    released: bool = False
    called_off: bool = False


class ProcessPersister:
    """Starts its process when it is first needed, and does not wait for it. One that died is replaced by a `submit`.

    Commits, and what retention deletes after them, are remembered here, so that they are known to its heir.
    """

    def __init__(self, url: str, *, rank: int) -> None:
        """`url` is the backend's: a relative path would be another place once the folder was changed."""
        self._url = url
        self._rank = rank
        self._errands: dict[int, _Errand] = {}
        self._numbers = 0
        self._outcomes: deque[Outcome] = deque()
        self._living: dict[int, Identity] = {}
        """The memory behind the trainer's descriptors, as far as it was handed over."""
        self._own: set[AttemptId] = set()
        """What was committed here and is not deleted: see `sweep.maintain`."""
        self._trouble = ""
        self._life: Life | None = None
        self._lives = 0

    def prepare(self) -> None:
        if self._lives == 0:
            self._life = self._begin()

    def submit(self, job: SaveJob, staged: Staged) -> None:
        self._hear()
        if self._life is None:
            self._life = self._begin()
        if self._life is None:
            self._fail(job.id, f"rank {self._rank} has no persister: {self._trouble}")
        else:
            self._send(self._life, job, staged, durable=True)

    def keep(self, job: SaveJob, staged: Staged) -> None:
        self._hear()
        self.prepare()
        if self._life is not None:  # A save is worth a new process; by a snapshot a year of them could be started.
            self._send(self._life, job, staged, durable=False)

    def _send(self, life: Life, job: SaveJob, staged: Staged, *, durable: bool) -> None:
        memory = self._living[staged.descriptor] = identity_of(staged.descriptor)
        self._living = {number: each for number, each in self._living.items() if _is_still(each, number)}
        self._numbers += 1
        sent = messages.Sent(
            number=self._numbers,
            job=job,
            size=len(staged.view),
            seal=staged.seal,
            durable=durable,
            living=tuple(self._living.values()),
        )
        self._errands[self._numbers] = _Errand(job.id, memory, ended=not durable, finished=not durable)
        try:
            life.send(sent, staged.descriptor)
        except ConnectionError:
            self._hear()  # It has died in this moment.
        except OSError as error:
            del self._errands[self._numbers]
            if durable:
                self._fail(job.id, f"rank {self._rank}'s persister takes nothing more: {error.strerror}")

    @property
    def busy(self) -> bool:
        self._hear()
        return any(not errand.ended for errand in self._errands.values())

    def holds(self, descriptor: int) -> bool:
        self._hear()
        memory = identity_of(descriptor)
        return any(errand.memory == memory and not errand.released for errand in self._errands.values())

    def outcome(self) -> Outcome | None:
        self._hear()
        return self._outcomes.popleft() if self._outcomes else None

    def cancel(self, step: int, reason: str) -> None:
        for number, errand in self._errands.items():
            if self._life is not None and errand.id.step == step and not (errand.ended or errand.called_off):
                with contextlib.suppress(OSError):  # Said again next time, or of no more use.
                    self._life.send(messages.CalledOff(number=number, reason=reason))
                    errand.called_off = True

    def wait(self, timeout_s: float) -> bool:
        ends_at = time.monotonic() + timeout_s
        while self._is_at_work and self._life is not None:
            poll = select.poll()
            poll.register(self._life.end, select.POLLIN)
            if not poll.poll(max(0.0, ends_at - time.monotonic()) * 1000):
                return not self._is_at_work
        return True

    @property
    def _is_at_work(self) -> bool:
        self._hear()
        return any(not errand.finished for errand in self._errands.values())

    def close(self) -> None:
        if self._life is not None:
            self._life.finish()
            self._hear()

    def _begin(self) -> Life | None:
        """None where no process can be started now."""
        try:
            life = Life.begin(self._url, self._rank)
        except OSError as error:
            self._trouble = str(error)
            return None
        self._lives += 1
        self._abandon = weakref.finalize(self, life.abandon)  # A trainer's object may go without a `close`.
        self._abandon.atexit = False
        with contextlib.suppress(ConnectionError):  # It is dead already: whoever listens hears so.
            life.send(messages.Opened(url=self._url, rank=self._rank, own=tuple(sorted(self._own))))
        return life

    def _hear(self) -> None:
        """Take in what it has said, without waiting for more."""
        while self._life is not None:
            try:
                message, _ = messages.receive(self._life.end)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # It has ended with something unread; what it has said before comes all the same.
            except EOFError:
                self._lose(self._life)
            except messages.BadMessage as error:
                _log.warning("rank %d's persister is not understood and is ended: %s", self._rank, error)
                self._life.process.kill()
                self._lose(self._life)
            else:
                self._take(message)

    def _take(self, message: messages.Message) -> None:
        number = -1 if isinstance(message, messages.Opened) else message.number
        errand = self._errands.get(number)
        if errand is None:
            return
        if isinstance(message, messages.Released):
            errand.released = True
        elif isinstance(message, messages.Ended):
            errand.ended = True
            self._outcomes.append(message.outcome)
            if message.outcome.committed:
                self._own.add(errand.id)
        elif isinstance(message, messages.Finished):
            errand.finished = True
            self._own.difference_update(message.deleted)
        if errand.released and errand.finished:
            del self._errands[number]

    def _lose(self, life: Life) -> None:
        """The process is gone, or about to go."""
        self._life = None
        self._abandon.detach()
        how = life.bury()
        lost = [errand for errand in self._errands.values() if not errand.ended]
        for errand in lost:
            was = how or "went"
            self._fail(
                errand.id, f"rank {self._rank}'s persister {was} before it was done. The next save starts another"
            )
        if how and not lost:
            _log.warning("rank %d's persister %s. The next save starts another", self._rank, how)
        if self._own and any(not errand.finished for errand in self._errands.values()):
            # It may have deleted some and not said so. The newest is what no tidying deletes.
            self._own = {max(self._own)}
        self._errands.clear()

    def _fail(self, attempt: AttemptId, reason: str) -> None:
        self._outcomes.append(Outcome(attempt.step, failed=reason))


def _is_still(memory: Identity, descriptor: int) -> bool:
    try:
        return identity_of(descriptor) == memory
    except OSError:
        return False
