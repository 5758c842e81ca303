"""Several hosts, or one that was told to meet others: what the launcher's loop talks to.

Waiting for other hosts may take minutes, and a store whose host was cut off answers never: torch's stores have no
deadline for most of what they do, and nothing can interrupt them. So all of that is an attendant's, in a thread of its
own, and an attendant that is held up too long is left to itself and replaced.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from ..judging.failures import Failure
from .attendant import Attendant
from .elastic import translate
from .liveness import SILENT_S
from .meeting import AllFinished, Broken, Cause, Inbox, Meeting, News, Refused
from .standing import Standing

_GUARD_EVERY_S: Final = 0.5
_FAREWELL_S: Final = 4.0


class Together(Inbox):
    def __init__(self, incarnation: str, processes: int, meeting: Meeting) -> None:
        super().__init__()
        self._meeting = meeting
        self._standing = Standing(meeting, processes, fresh=incarnation)
        self._over = threading.Event()
        self._attendant = self._employ()
        threading.Thread(target=self._guard, name="rendezvous-guard", daemon=True).start()

    def join(self, attempt: int) -> None:
        self._attendant.order(lambda attendant: attendant.join(attempt))

    def leave(self, reason: str) -> None:
        self._attendant.order(lambda attendant: attendant.leave(reason))

    def accuse(self, failure: Failure) -> None:
        self._attendant.order(lambda attendant: attendant.accuse(failure))

    def finish(self) -> None:
        self._attendant.order(Attendant.finish)

    def close(self, ended_with: int | None = None) -> None:
        self._over.set()
        closed = threading.Event()
        if ended_with is not None:
            self._attendant.order(lambda attendant: attendant.end(ended_with))
        self._attendant.order(lambda attendant: attendant.leave("its launcher has ended"))
        self._attendant.order(Attendant.quit)
        self._attendant.order(lambda _: closed.set())
        if not self._attendant.waits_for_hosts:
            closed.wait(_FAREWELL_S)
        self.shut()

    def _employ(self) -> Attendant:
        return Attendant(self._standing, self._hear)

    def _hear(self, attendant: Attendant, news: News) -> None:
        if attendant is self._attendant:  # And not one that was left to itself.
            self.post(news)

    def _guard(self) -> None:
        while not self._over.wait(_GUARD_EVERY_S):
            if self._attendant.held_up_s(time.monotonic()) > SILENT_S:
                self._replace()

    def _replace(self) -> None:
        held_up, self._attendant = self._attendant, self._employ()
        waited = held_up.waits_for_hosts
        held_up.dismiss()
        silent = TimeoutError(f"no answer for {SILENT_S:g} s")
        if held_up.finishing:
            self.post(AllFinished())
        elif waited:
            self.post(Refused(translate(silent, self._meeting, met=self._standing.met)))
        else:
            self.post(Broken(f"{self._meeting.where}: {silent}", Cause.LOST))
