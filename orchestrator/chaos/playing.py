"""One fault after another against a running job, and how long it takes to come back from each."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ...storage.backends.base import Backend
from ...storage.backends.open import open_backend
from ..errors import UsageError
from .faults import ENDS_LAUNCHER, FAULTS, RESTARTS_WORKERS, Stage
from .running import RunningLauncher, running_launchers

T = TypeVar("T")

_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """`times` faults, each one of `faults` at random, with `every_s` seconds of training before each. A job that has
    not come back after `patience_s` seconds counts as lost.
    """

    faults: Sequence[str]
    times: int = 1
    every_s: float = 5.0
    patience_s: float = 120.0
    rank: int | None = None
    interface: str | None = None
    outage_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Episode:
    """`back_s`: seconds from the fault to what shows that the job has got over it; None: it did not in time."""

    fault: str
    what: str
    back_s: float | None


def play(url: str | None, plan: Plan, dice: random.Random) -> Iterator[Episode]:
    """One episode after another; ends early after one that the job has not got over.

    Raises:
        UsageError: there is no such fault or no such job on this host.
        StorageError: nothing serves the URL.
    """
    for name in plan.faults:
        if name not in FAULTS:
            raise UsageError(f"{name} is not a fault; there are {', '.join(FAULTS)}")
    backend = open_backend(url) if url is not None else None
    for _ in range(plan.times):
        launcher = _await_job(backend, plan)
        threading.Event().wait(plan.every_s)
        fault = dice.choice(list(plan.faults))
        stage = Stage(launcher, backend, dice, plan.rank, plan.interface, plan.outage_s)
        episode = _episode(fault, stage, plan)
        yield episode
        if episode.back_s is None:
            return


def _await_job(backend: Backend | None, plan: Plan) -> RunningLauncher:
    """The launcher, as soon as its workers train."""
    url = backend.url if backend is not None else None
    is_coming = plan.times > 1 or bool(running_launchers(url))  # At its start, or after a failure of its own.
    patience_s = plan.patience_s if is_coming else 0.0
    found = _until(lambda: [each for each in running_launchers(url) if each.trains()], patience_s) or []
    if len(found) == 1:
        return found[0]
    whose = f"of {url} " if url is not None else ""
    if not found:
        raise UsageError(f"no job {whose}trains on this host under this user")
    several = ", ".join(f"{each.url or 'a script'} (launcher {each.pid})" for each in found)
    raise UsageError(f"there are several jobs {whose}on this host, say which by its URL: {several}")


def _episode(fault: str, stage: Stage, plan: Plan) -> Episode:
    launcher = stage.launcher
    attempt, committed = launcher.attempt, launcher.committed_step
    began = time.monotonic()
    what = FAULTS[fault](stage)
    if fault in RESTARTS_WORKERS:
        back = _until(lambda: launcher.trains(after_attempt=attempt), plan.patience_s)
    elif fault in ENDS_LAUNCHER:
        back = _until(lambda: _successor(launcher), plan.patience_s)
    elif fault == "corrupt":
        back = True  # Nothing notices it before the next restore.
    else:
        back = _until(lambda: launcher.committed_step > committed, plan.patience_s)
    return Episode(fault, what, time.monotonic() - began if back else None)


def _successor(launcher: RunningLauncher) -> bool:
    others = [each for each in running_launchers(launcher.url) if each.pid != launcher.pid]
    return any(each.trains() for each in others)


def _until(condition: Callable[[], T], patience_s: float) -> T | None:
    ends_at = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() >= ends_at:
            return None
        threading.Event().wait(_LOOK_S)
    return value
