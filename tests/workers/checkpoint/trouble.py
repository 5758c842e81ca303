"""What ranks do in test_failed_saves.py: the storage of one of them refuses everything for a while."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.parallel import World
from relight.workers.signals import StopFlag

EVERY = 100
_STEP_S = 0.01


def _open(world: World, directory: Path) -> tuple[Checkpointer, Path]:
    """Every rank reaches the one run by a link of its own, so that one rank's way can be cut."""
    run = directory / "run"
    run.mkdir(exist_ok=True)
    way = directory / f"way-{world.rank}"
    way.symlink_to(run)
    torch.manual_seed(0)
    settings = CheckpointSettings(every=EVERY, deadline_s=60.0, identity={"name": "trouble"})
    model = nn.Linear(64, 64)
    return Checkpointer(str(way), model=model, settings=settings, control=world.control, stop=StopFlag()), run


def _lead_away(world: World, directory: Path, target: Path) -> None:
    if world.rank == 1:
        other = directory / "way-other"
        other.symlink_to(target)
        other.replace(directory / "way-1")


def _steps(checkpointer: Checkpointer, until: int) -> None:
    while checkpointer.progress.step < until:
        threading.Event().wait(_STEP_S)  # The work of a step.
        checkpointer.step(loss=1.0)


def _steps_until_it_is_over(checkpointer: Checkpointer) -> dict[str, Any]:
    """Train on until every rank has heard that the save of step EVERY failed and rank 0 has let go of it."""
    _steps(checkpointer, EVERY)
    assert checkpointer._session is not None
    began, ledger = time.monotonic(), checkpointer._session._ledger
    heard_s = over_s = 0.0
    while checkpointer.progress.step < 2 * EVERY - 1:
        _steps(checkpointer, checkpointer.progress.step + 1)
        if not heard_s and ledger.failed_step == EVERY:
            heard_s = time.monotonic() - began
        if heard_s and not over_s and not checkpointer._session.saver.busy:
            over_s = time.monotonic() - began
    return {"heard_s": heard_s, "over_s": over_s, "committed": ledger.committed_step}


def during(world: World, directory: Path) -> dict[str, Any]:
    """A save fails while training goes on; the one after it, with the cause gone, is committed."""
    checkpointer, run = _open(world, directory)
    checkpointer.restore()
    _steps(checkpointer, EVERY - 2)
    _lead_away(world, directory, Path((directory / "trouble").read_text()))
    found = _steps_until_it_is_over(checkpointer)
    _lead_away(world, directory, run)
    _steps(checkpointer, 3 * EVERY - 1)
    checkpointer.finish()
    return found | {"steps": [each.step for each in Catalog(open_backend(str(run))).committed()]}


def at_the_end(world: World, directory: Path) -> dict[str, Any]:
    """The last save fails: nobody waits for what will not come."""
    checkpointer, _ = _open(world, directory)
    checkpointer.restore()
    _steps(checkpointer, EVERY - 2)
    _lead_away(world, directory, Path((directory / "trouble").read_text()))
    began = time.monotonic()
    try:
        checkpointer.finish()
    except Exception as error:  # noqa: BLE001 -- whatever it is, the test looks at it
        return {"seconds": time.monotonic() - began, "error": f"{type(error).__name__}: {error}"}
    return {"error": ""}
