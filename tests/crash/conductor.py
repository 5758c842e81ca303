"""Several actors, one step at a time, in an order that a seed decides: what threads do, but repeatable.

`from relight.tests.crash.conductor import Conductor`
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Killed(BaseException):
    """SIGKILL, as far as the code under test can tell: no handler of its own stops it."""


@dataclass(slots=True)
class _Actor:
    act: Callable[[Callable[[], None]], None]
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    done: bool = False
    error: BaseException | None = None


class Conductor:
    """Each actor is a function that takes its gate and passes it before every step."""

    def __init__(self, seed: int, *, kill_at: int | None = None) -> None:
        self._random = random.Random(seed)
        self._arrived = threading.Semaphore(0)
        self._kill_at = kill_at
        self._dead = False
        self.gates = 0
        """Steps that were let through so far, by all actors."""

    def perform(self, *acts: Callable[[Callable[[], None]], None]) -> bool:
        """Run all to their end; False when they were killed before. An actor's own error is raised here."""
        actors = [_Actor(act) for act in acts]
        threads = [threading.Thread(target=self._live, args=(actor,)) for actor in actors]
        for thread in threads:
            thread.start()
            self._arrived.acquire()
        while waiting := [actor for actor in actors if not actor.done]:
            chosen = self._random.choice(waiting)
            chosen.go.release()
            self._arrived.acquire()
        for thread in threads:
            thread.join()
        for actor in actors:
            if actor.error is not None and not isinstance(actor.error, Killed):
                raise actor.error
        return not self._dead

    def _live(self, actor: _Actor) -> None:
        def gate() -> None:
            self._arrived.release()
            actor.go.acquire()
            self._dead = self._dead or self.gates == self._kill_at
            if self._dead:
                raise Killed
            self.gates += 1

        try:
            gate()
            actor.act(gate)
        except BaseException as error:  # noqa: BLE001  (raised again in the conductor's thread)
            actor.error = error
        actor.done = True
        self._arrived.release()
