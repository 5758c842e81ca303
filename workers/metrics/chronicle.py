"""What rank 0 tells of the training while it goes on: a point of the loss now and then, evaluations, saves, restarts.

The journal gets a few bytes a second at most (`pace`), loggers what they were asked to get. Nothing here is a
collective, nothing waits for a device, and nothing raises for a listener's sake.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from ...configs.events import Events
from ...configs.goodput import read_goodput
from ...storage.persist import Outcome as SaveOutcome
from ..origin import Origin
from .fanout import Loggers
from .logger import Logger, Outcome, RunFacts
from .pace import Pace
from .readings import Reading, Readings

_JOURNAL: Final = 1
_LOGGERS: Final = 2
_GOODPUT_EVERY_S: Final = 1.0
_NOTICED_S: Final = 1e-4
_SAVES_AT_LEAST: Final = 500
"""So many saves of a life are told of in any case, and then as many as points are."""


class Chronicle:
    """Told of every step; tells what is due. On other ranks than 0, or where nobody listens, it does nothing."""

    def __init__(
        self,
        events: Events,
        loggers: Sequence[Logger] = (),
        *,
        origin: Origin,
        log_every: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        first = origin.rank == 0
        self._events = events
        self._journal = first and origin.run_dir is not None
        self._loggers = Loggers(loggers if first else ())
        self._log_every = log_every
        self._origin = origin
        self._clock = clock
        self._pace = Pace(origin.watched_s, clock)
        self._saves_pace = Pace(origin.watched_s, clock)
        self._readings = Readings()
        self._metrics: Mapping[str, float] = {}
        self._metrics_then: Mapping[str, float] = {}
        self._goodput: float | None = None
        self._goodput_due = float("-inf")
        self._stalls: deque[tuple[int, float]] = deque()
        self._saves_told = 0
        self._newest: tuple[int, torch.Tensor | float] | None = None
        self._ending = False

    def begin(self, *, run: str, url: str, step: int, metrics: Mapping[str, float]) -> None:
        """A life begins after `step`; `metrics` are those of the checkpoint."""
        self._metrics, self._metrics_then = metrics, dict(metrics)
        # A launcher may stand elsewhere than a script that has changed its folder.
        place = url if "://" in url else str(Path(url).absolute())
        if self._journal:
            self._events.tell("resumed", step=step, url=place, run=run)
        elif self._origin.rank % self._origin.local_world_size == 0:  # The first of another host, for its launcher.
            self._events.tell("stores", url=place)
        if self._loggers:
            atexit.register(self._left, os.getpid())
            self._loggers.begin(_facts(run, url, step, self._origin.config))

    def step(self, step: int, loss: torch.Tensor | float | None, metrics: Mapping[str, float]) -> None:
        """`step` is done. `metrics` are the last evaluation's, which was before it."""
        if not (self._journal or self._loggers):
            return
        self.evaluated(step - 1, metrics)
        purpose = _JOURNAL if self._journal and self._pace.due() else 0
        if self._loggers and step % self._log_every == 0:
            purpose |= _LOGGERS
        if loss is not None:
            self._newest = (step, loss) if self._journal and not purpose & _JOURNAL else None
            if purpose:
                self._readings.put(step, loss, purpose)
        self._tell_points()

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell of `metrics` if they are others than last time, or have been put in place anew."""
        if metrics is self._metrics and metrics == self._metrics_then:
            return
        self._metrics, self._metrics_then = metrics, dict(metrics)
        if not metrics or not (self._journal or self._loggers):
            return
        self._tell_points(wait=True)  # An evaluation has waited for the device as well.
        values = {name: float(value) for name, value in metrics.items()}
        if self._journal:
            self._events.tell("evaluated", step=step, metrics={name: spelt(value) for name, value in values.items()})
        self._loggers.log(step, {f"metrics/{name}": value for name, value in values.items()})

    def saves(self, step: int, stall_s: float) -> None:
        """A save of `step` was staged, which has held the training up for so long."""
        if self._journal:
            self._stalls.append((step, stall_s))
        self.settle()

    def settle(self) -> None:
        """The state was copied, and may be gone on from: no step before it is done again, so none may be missing.

        The copy has waited for the device.
        """
        self._tell_points(wait=bool(self._loggers))

    def stalls(self, seconds: float) -> None:
        """The last save has held it up once more."""
        if self._stalls and seconds > _NOTICED_S:
            step, before_s = self._stalls.pop()
            self._stalls.append((step, before_s + seconds))

    def saved(self, outcome: SaveOutcome) -> None:
        """What came of a save, in the order of the saves."""
        while self._stalls and self._stalls[0][0] < outcome.step:
            self._stalls.popleft()
        if not self._journal or not self._stalls or self._stalls[0][0] != outcome.step:
            return
        _, stall_s = self._stalls.popleft()
        if self._saves_pace.due() or outcome.failed or self._saves_told < _SAVES_AT_LEAST:
            self._saves_told += 1
            facts: dict[str, Any] = {"stall_s": round(stall_s, 6), "persist_s": round(outcome.took_s, 6)}
            failed = {"failed": outcome.failed} if outcome.failed else {}
            self._events.tell("saved", step=outcome.step, **facts, **failed)

    def end(self, outcome: Outcome) -> None:
        """The last word, once."""
        if self._ending:
            return
        self._ending = True
        atexit.unregister(self._left)
        if outcome is not Outcome.FAILED:  # A device that has failed may never answer.
            if self._newest is not None:
                self._readings.put(*self._newest, _JOURNAL)
            self._tell_points(wait=True)
        self._loggers.end(outcome)

    def _left(self, pid: int) -> None:
        """The interpreter ends, and nobody has said how. In a process that the script has forked that means nothing."""
        if os.getpid() == pid:
            self.end(Outcome.FAILED)

    def _tell_points(self, *, wait: bool = False) -> None:
        for reading in self._readings.take(wait=wait):
            if reading.purpose & _JOURNAL:
                # Not rounded: it would come before what was told in the same millisecond.
                self._events.tell("point", at=reading.at, step=reading.step, loss=spelt(reading.value))
            if reading.purpose & _LOGGERS:
                self._loggers.log(reading.step, self._scalars(reading))

    def _scalars(self, reading: Reading) -> dict[str, float]:
        if self._origin.run_dir is not None and self._clock() >= self._goodput_due:
            self._goodput = read_goodput(self._origin.run_dir)
            if self._goodput is not None:
                self._goodput_due = self._clock() + _GOODPUT_EVERY_S
        return {"loss": reading.value} | ({} if self._goodput is None else {"goodput": self._goodput})


def spelt(value: float) -> float | str:
    """Six digits are enough for a chart; JSON has no infinities, and a loss may be one."""
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def _facts(run: str, url: str, step: int, config: str | None) -> RunFacts:
    document: dict[str, Any] = json.loads(config) if config is not None else {}
    name = str(document.get("name") or Path(url).name or run)
    return RunFacts(id=run, name=name, url=url, first_step=step, config=document)
