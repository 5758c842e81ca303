"""When a checkpoint is due, and when a copy in memory is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Literal

from ...configs.every import Every
from .interval import Advice, advise
from .meter import Meter

_FIRST_COPY: Final = 3
"""Steps before the first copy in memory whose cost is not known: the first steps of a life are not like the others."""


class Cadence:
    """Remembers that a save is due until it is made: one that was due while another was under way is not lost.

    By steps it is a pure function of the step. By time each rank has its own clock, so `asks` is a vote and `note`
    takes what all ranks agreed on. "auto" is by time, and the time follows what the last save cost.
    """

    def __init__(
        self,
        every: Every | Literal["auto"],
        *,
        mtbf_s: float = math.inf,
        overhead: float = 0.01,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = every.steps if isinstance(every, Every) else None
        self._seconds = every.seconds if isinstance(every, Every) else None
        self._auto = every == "auto"
        self._mtbf_s = mtbf_s
        self._overhead = overhead
        self._clock = clock
        self._saved_at = clock()
        self._pending = False
        if self._auto:
            self.learn(0.0)

    @property
    def asks(self) -> bool:
        """This rank's clock says that it is time."""
        return self._seconds is not None and self._clock() - self._saved_at >= self._seconds

    def learn(self, cost_s: float) -> Advice | None:
        """A save has cost so many seconds. The new interval and why, where it is chosen automatically."""
        if not self._auto:
            return None
        advice = advise(cost_s, self._mtbf_s, overhead=self._overhead)
        self._seconds = advice.interval_s
        return advice

    def note(self, step: int, *, agreed: bool) -> bool:
        """After `step`: is a save due, now or since earlier?"""
        by_step = self._steps is not None and step % self._steps == 0
        self._pending = self._pending or by_step or agreed
        return self._pending

    def saved(self) -> None:
        """It was made, or is not to be made."""
        self._pending = False
        self._saved_at = self._clock()


class Pace:
    """When the state is copied in memory: every so many steps, or as often as `overhead` of the time allows."""

    def __init__(self, every: int | Literal["auto", "never"], *, overhead: float) -> None:
        self._every = every
        self._overhead = overhead
        self._last = 0

    def start(self, step: int) -> None:
        """Training goes on from `step`."""
        self._last = step

    def asks(self, step: int, meter: Meter) -> bool:
        """Rank 0's vote after `step`, where the pace is automatic; what the copies cost is measured there."""
        if self._every != "auto" or meter.step_s is None:
            return False
        if meter.snapshot_s is None:
            return step - self._last >= _FIRST_COPY
        return (step - self._last) * meter.step_s * self._overhead >= meter.snapshot_s

    def note(self, step: int, *, agreed: bool) -> bool:
        """After `step`: is a copy due?"""
        return agreed if self._every == "auto" else isinstance(self._every, int) and step - self._last >= self._every

    def copied(self, step: int) -> None:
        """The state of `step` is in memory, by a copy of its own or by a save."""
        self._last = step
