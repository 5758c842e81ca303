"""When a checkpoint is due."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...configs.every import Every


class Cadence:
    """Remembers that a save is due until it is made: one that was due while another was under way is not lost.

    By steps it is a pure function of the step. By time each rank has its own clock, so `asks` is a vote and `note`
    takes what all ranks agreed on.
    """

    def __init__(self, every: Every, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._saved_at = clock()
        self._pending = False

    @property
    def asks(self) -> bool:
        """This rank's clock says that it is time."""
        return self._every.seconds is not None and self._clock() - self._saved_at >= self._every.seconds

    def note(self, step: int, *, agreed: bool) -> bool:
        """After `step`: is a save due, now or since earlier?"""
        by_step = self._every.steps is not None and step % self._every.steps == 0
        self._pending = self._pending or by_step or agreed
        return self._pending

    def saved(self) -> None:
        self._pending = False
        self._saved_at = self._clock()
