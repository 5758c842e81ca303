"""A persister's process: seals and persists what its trainer sends, and goes when the trainer has gone and all is done.

    python -P -m relight.storage.persister_main SOCKET LIVING TRAINER

SOCKET and LIVING are descriptors (see `messages` and `living`), TRAINER is the process number of whoever started it.
It never imports torch, and holds nothing of the trainer's but the memory it is sent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from . import living, messages
from .backends.open import open_backend
from .errands import Errand, Errands
from .errors import StorageError
from .layout import AttemptId
from .living import Living, State
from .mappings import Mappings
from .persist import Outcome

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.02
_CLEARING_S: Final = 15.0
"""What a save that failed at its deadline is given to clear away what it left."""
_NO_MORE: Final = "the workers were gone before every rank had staged its shard"


class Desk:
    """One trainer's errands, as they come in from `end`."""

    def __init__(self, end: socket.socket, here: Living, trainer: int) -> None:
        self._end = end
        self._here = here
        self._trainer = _Trainer(trainer)
        self._url, self._rank = "", -1
        self._mappings = Mappings()
        self._descriptors: dict[int, int] = {}
        """The memory of errands, by number: open as long as it is read, so that a lock on it says just that."""
        self._mates: dict[int, set[Path]] = {}
        """The other ranks' persisters at the time of a save that rank 0 is to commit, if all are on this host."""

    def serve(self) -> int:
        """Returns the exit code."""
        code, errands = 0, None
        try:
            for message, descriptors in self._received():
                if errands is None:
                    errands = self._open(message)
                else:
                    self._hear(message, descriptors, errands)
        except StorageError as error:
            _log.error("the persister does not understand its trainer: %s", error)
            code = 1
        if errands is not None and not self._leave(errands):
            code = 1
        return code

    def _received(self) -> Iterator[tuple[messages.Message, list[int]]]:
        """Everything that the trainer sends, to its last word."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        if self._trainer.descriptor is not None:
            poll.register(self._trainer.descriptor, select.POLLIN)
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                lives = self._trainer.lives
                if self._end.fileno() in dict(poll.poll(self._trainer.look_ms if lives else 0)):
                    yield messages.receive(self._end)
                elif not lives:  # Its end may be open still: loader workers inherit it.
                    return

    def _open(self, message: messages.Message) -> Errands:
        if not isinstance(message, messages.Opened):
            raise messages.BadMessage(f"{message.kind} came first")
        backend = open_backend(message.url)
        self._url, self._rank = message.url, message.rank
        return Errands(backend, self, message.own)

    def _hear(self, message: messages.Message, descriptors: Sequence[int], errands: Errands) -> None:
        if isinstance(message, messages.Sent) and len(descriptors) == 1:
            self._mappings.drop_all_but(message.living)
            self._descriptors[message.number] = descriptors[0]
            if message.durable and self._rank == 0:
                self._note_mates(message)
            errands.add(self._errand(message, descriptors[0]))
        elif isinstance(message, messages.CalledOff):
            errands.call_off(message.number, message.reason)
        else:
            raise messages.BadMessage(f"{message.kind} with {len(descriptors)} descriptors")

    def _errand(self, sent: messages.Sent, descriptor: int) -> Errand:
        return Errand(
            number=sent.number,
            job=sent.job,
            view=lambda: self._mappings.view(descriptor, sent.size),
            seal=sent.seal,
            durable=sent.durable,
        )

    def _note_mates(self, sent: messages.Sent) -> None:
        others = [each for each in living.everyone(self._url) if each.path != self._here.path]
        if {each.rank for each in others} >= set(range(1, sent.job.world_size)):
            self._mates[sent.number] = {each.path for each in others}

    def _leave(self, errands: Errands) -> bool:
        """Do what is left, within the saves' deadline; False when that was too short."""
        limit_s = max((errand.job.deadline_s for errand in errands.saves), default=0.0) + _CLEARING_S
        ends_at = time.monotonic() + limit_s
        self._here.tell(State.SEALING)
        errands.wait_sealed(limit_s)
        self._here.tell(State.PERSISTING)
        while not errands.wait(_LOOK_S):
            if self._here.is_called_off():
                errands.call_off(None, _NO_MORE)
            self._call_off_what_cannot_come(errands)
            if time.monotonic() > ends_at:
                steps = ", ".join(str(errand.job.id.step) for errand in errands.saves)
                _log.warning("the save of step %s is given up: not done %g s after its worker's end", steps, limit_s)
                return False
        return True

    def _call_off_what_cannot_come(self, errands: Errands) -> None:
        """Once the other ranks' persisters have all gone, there is nobody left who could write a receipt."""
        if self._mates:
            here = {each.path for each in living.everyone(self._url)}
            for number in [number for number, mates in self._mates.items() if not mates & here]:
                errands.call_off(number, _NO_MORE)
                del self._mates[number]

    def released(self, errand: Errand) -> None:
        os.close(self._descriptors.pop(errand.number))
        self._tell(messages.Released(number=errand.number))

    def ended(self, errand: Errand, outcome: Outcome) -> None:
        # A path need not be text, and what is not text cannot be told.
        told = dataclasses.replace(outcome, failed=outcome.failed.encode(errors="replace").decode())
        if self._tell(messages.Ended(number=errand.number, outcome=told)):
            return
        if outcome.failed:
            _log.warning("the save of step %d failed after its worker's end: %s", outcome.step, outcome.failed)
        elif outcome.committed:
            _log.warning("step %d was committed after its worker's end", outcome.step)

    def finished(self, errand: Errand, deleted: Sequence[AttemptId]) -> None:
        self._tell(messages.Finished(number=errand.number, deleted=tuple(deleted)))

    def _tell(self, message: messages.Message) -> bool:
        """Whether somebody is there to hear it."""
        try:
            messages.send(self._end, message)
        except OSError:
            return False
        return self._trainer.lives


class _Trainer:
    """Whoever started this process. Its end is seen at once, whatever it has forked holds its end of the socket."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.descriptor: int | None = None
        """Readable when it has died."""
        self.look_ms: int | None = 1000
        with contextlib.suppress(OSError):  # It is dead, or where this runs there are no such descriptors.
            self.descriptor = os.pidfd_open(pid)
            self.look_ms = None

    @property
    def lives(self) -> bool:
        """An orphan is given to another parent."""
        return os.getppid() == self._pid


def main() -> None:
    for number in messages.IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, messages.IGNORED)
    logging.basicConfig(level=logging.WARNING, format="relight: %(message)s")
    end, file, trainer = map(int, sys.argv[1:])
    for descriptor in (end, file):
        os.set_inheritable(descriptor, False)
    here = Living(file)
    code = Desk(socket.socket(fileno=end), here, trainer).serve()
    here.end()
    sys.stderr.flush()
    os._exit(code)  # Connections of a store are not taken apart one by one: nobody would wait for that.


if __name__ == "__main__":
    main()
