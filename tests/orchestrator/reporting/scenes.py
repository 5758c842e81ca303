"""Runs that never were, written by the real bookkeeper, for the report to tell.

from relight.tests.orchestrator.reporting.scenes import eventful, Told
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from relight.configs.heartbeat import Phase
from relight.tests.orchestrator.recorded import Recorded

NOON = 1_700_000_000.0
TRACEBACK = (
    'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\nValueError: <no> "column" & all'
)


class Told(Recorded):
    """As a launcher's journal whose worker tells its loss at each step, a second long."""

    def begin(self, attempt: int, step: int) -> None:
        self.record("resumed", attempt=attempt, rank=0, step=step, url="u", run="r")

    def steps(self, attempt: int, first: int, last: int, *, resumed: int) -> None:
        self.begin(attempt, resumed)
        self.beat(Phase.RESTORING)
        self.at += 1
        points = []
        for step in range(first, last + 1):
            self.beat(Phase.TRAINING, step, resumed)
            points.append([self.at, step, loss(step, attempt)])
            if step % 10 == 0:
                self.record("evaluated", attempt=attempt, rank=0, step=step, metrics={"accuracy": 1 - loss(step) / 3})
                self.save(attempt, step)
            self.at += 1
        self.record("points", attempt=attempt, points=points)

    def save(self, attempt: int, step: int, **facts: Any) -> None:
        times = {"stall_s": 0.01 + step / 1e4, "persist_s": 0.5 + step / 1e3}
        self.record("saved", attempt=attempt, rank=0, step=step, **(times | facts))


def loss(step: int, attempt: int = 1) -> float:
    return round(2.5 * math.exp(-step / 30) + 0.05 + 0.01 * attempt * (step % 3), 4)


def eventful(folder: Path) -> float:
    """A crash with a traceback, a failed save, a preemption, a lost launcher; 100 steps. Returns when it was over."""
    first = Told("aaa111", NOON)
    first.launch()
    first.steps(1, 1, 35, resumed=0)
    first.fail(1, "USER_BUG", step=35)
    (failed,) = (line for line in first.lines if line["event"] == "failed")
    failed |= {"what": 'ValueError: <no> "column" & all', "details": TRACEBACK, "beside": ["rank 1: reset"]}
    first.steps(2, 31, 62, resumed=30)
    first.save(2, 60, failed="no space left on <disk>")
    first.record("exited", attempt=2, rank=0, returncode=75, step=62)
    first.record("stopped", attempt=2, signal="SIGTERM")
    first.end(75)
    first.store(folder)
    second = Told("bbb222", first.at + 40)
    second.launch()
    second.steps(1, 63, 80, resumed=62)
    second.show()
    second.store(folder)
    third = Told("ccc333", second.at + 20)
    third.launch()
    third.steps(1, 71, 100, resumed=70)
    third.end(0)
    third.store(folder)
    return third.at
