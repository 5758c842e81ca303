"""What a step takes and what a save costs, measured on the run itself."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

_REMEMBERED = 31


class Meter:
    """Told of every step, in order. Times are seconds of this rank's monotonic clock.

    A save's cost is the stall of its staging, and what the steps take longer while it is being persisted.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet: deque[float] = deque(maxlen=_REMEMBERED)
        self._ended_at: float | None = None
        self._stall_s = 0.0
        self._slowdown_s = 0.0
        self._saving = False
        self.save_cost_s: float | None = None
        """Of the last save that has ended."""
        self.snapshot_s: float | None = None
        """Stall of the last copy in memory."""

    @property
    def step_s(self) -> float | None:
        """What a step takes when nothing is saved: the median of the last ones; None before the first."""
        return statistics.median(self._quiet) if self._quiet else None

    def begin(self) -> None:
        """A step of training has ended, and what is done at its boundary begins."""
        now = self._clock()
        if self._ended_at is None:
            return
        took = now - self._ended_at
        if not self._saving:
            self._quiet.append(took)
        elif self.step_s is not None:
            self._slowdown_s += max(0.0, took - self.step_s)

    def end(self, *, busy: bool) -> None:
        """The next step begins; `busy`: a save is being persisted meanwhile."""
        self._ended_at = self._clock()
        if self._saving and not busy:
            self.save_cost_s = self._stall_s + self._slowdown_s
        self._saving = busy

    def pause(self) -> None:
        """What comes now (an evaluation) is no step."""
        self._ended_at = None

    def saved(self, stall_s: float) -> None:
        """A save was staged, which has held the training up for `stall_s`."""
        self._stall_s, self._slowdown_s, self._saving = stall_s, 0.0, True

    def snapshot(self, stall_s: float) -> None:
        self.snapshot_s = stall_s
