"""Relight, through its public door: `Checkpointer.step` where a save is due, `restore` in a fresh process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Final

import torch.distributed as dist

import relight
from relight.storage.backends.open import open_backend

from ..ranks import pause
from ..states import Live
from .contender import Contender, Place

EVERY: Final = 4
"""Steps between two saves: time to hear, in the steps between them, that the one before is done."""

QUIET: Final[dict[str, Any]] = {"memory_every": "never"}
"""No memory snapshots between the saves: they are measured by benchmarks.training."""

_LOOK_S: Final = 0.002
_LOOK_FAR_S: Final = 0.02
_STEP_S: Final = 0.02
_STEP_FAR_S: Final = 0.5
"""Steps between saves are slow enough for retention to come to its end: a save that meets it is put off."""

_DEADLINE_S: Final = 120.0


def settings(**wanted: Any) -> relight.CheckpointSettings:
    """`wanted`, as far as the installed Relight has such settings."""
    known = {field.name for field in dataclasses.fields(relight.CheckpointSettings)}
    return relight.CheckpointSettings(**{name: value for name, value in wanted.items() if name in known})


def knows(setting: str) -> bool:
    return setting in {field.name for field in dataclasses.fields(relight.CheckpointSettings)}


def arenas() -> int:
    """Host buffers that a rank may hold, by default."""
    return int(getattr(relight.CheckpointSettings(), "arenas", 1))


class Relight(Contender):
    title = "relight"
    durable = True
    verifies = True
    note = "durable: until the manifest is there"
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, live: Live, place: Place) -> None:
        super().__init__(live, place)
        self._checkpointer = relight.Checkpointer(
            place.url,
            model=live.ddp,
            optimizer=live.optimizer,
            settings=settings(every=EVERY, keep_last=1, **QUIET, **self.options),
        )
        self._backend = open_backend(place.url)
        self._restored = False

    def prepare(self, number: int) -> None:
        """Up to the step before the one that saves, and slowly: a save that is due while another is busy is put off."""
        if not self._restored:
            self._restore()
        if self.rank == 0:
            self._wait_for(lambda: self._kept() <= 1, "retention to leave one checkpoint")
        while self._checkpointer.progress.step < number * EVERY - 1:
            dist.barrier()
            pause(_STEP_FAR_S if self.place.remote else _STEP_S)
            self._checkpointer.step(loss=0.5)

    def save(self, number: int) -> None:  # noqa: ARG002 -- its steps are counted by the checkpointer
        self._checkpointer.step(loss=0.5)

    def next_step(self) -> None:
        """Without gradients an optimizer does nothing but run the hooks of its step."""
        self.live.optimizer.step()

    def settle(self, number: int) -> None:
        if self.rank == 0:
            step = number * EVERY
            self._wait_for(lambda: self._is_committed(step), f"the save of step {step} to be committed")

    def load(self, number: int) -> None:
        self._restore()
        if self._checkpointer.progress.step != number * EVERY:
            message = f"step {self._checkpointer.progress.step} was restored, not {number * EVERY}"
            raise RuntimeError(message)

    def drop(self, number: int) -> None:
        """Retention does it."""

    def close(self) -> None:
        if self._restored:
            self._checkpointer.finish()

    def _restore(self) -> None:
        self._checkpointer.restore()
        self._restored = True

    def _is_committed(self, step: int) -> bool:
        attempts = [key for key in self._checkpoints() if key.startswith(f"checkpoints/step-{step:012d}-")]
        found = (entry.key for key in attempts for entry in self._backend.list(key))
        return any(key.endswith("/manifest.json") for key in found)

    def _kept(self) -> int:
        """Checkpoints of which there is a file: a store may still show the folder of one that is gone."""
        inside = [self._backend.list(key) for key in self._checkpoints()]
        return sum(any(not entry.key.endswith("/") for entry in entries) for entries in inside)

    def _checkpoints(self) -> list[str]:
        return [entry.key for entry in self._backend.list("checkpoints/")]

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        look_s = _LOOK_FAR_S if self.place.remote else _LOOK_S
        for _ in range(int(_DEADLINE_S / look_s)):
            if condition():
                return
            pause(look_s)
        message = f"waited {_DEADLINE_S:g} s for {what}"
        raise TimeoutError(message)


class RelightOverlapping(Relight):
    title = "relight, overlap on"
    overlaps = True
    note = "stall: the call, and the wait of the next optimizer step"
    options: ClassVar[dict[str, Any]] = {"overlap": True}
