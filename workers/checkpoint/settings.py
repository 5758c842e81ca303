"""How a run is checkpointed: what a user may choose."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from ...configs.events import Events
from ...configs.every import Every
from ...storage.retention import Best, Rules
from ..metrics.chronicle import Chronicle
from ..metrics.logger import Logger
from ..origin import Origin, origin
from .saving import SaveSettings

_MOST_COPY_THREADS: Final = 4
"""More do not copy faster: the memory is the limit."""


class WhenBusy(StrEnum):
    """What is done when a save is due and an earlier one is still being written."""

    DEFER = "defer"
    """Save as soon as the earlier one is done."""
    WAIT = "wait"
    """Training stands still until then."""
    SKIP = "skip"
    """This one is left out."""
    QUEUE = "queue"
    """The state is copied now, into another arena, and written next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """`every`: steps (50), a time ("5m") or "auto". `identity`: what another run at the same URL would differ in.

    `memory_every`: steps between two copies in the host's memory, "auto" or "never"; `overhead`: the part of the time
    that what is automatic may take. `arenas`: host buffers per rank (1 to 3). `overlap`: copy what only the optimizer
    changes while the next forward and backward run; nothing but `optimizer.step()` may change parameters then.

    Kept are the `keep_last` newest checkpoints, one in `keep_every` (steps or a time), the best by a metric, and the
    steps in `pin`. `deadline_s`: how long a save may take. `max_failed_saves`: so many failures in a row stop the run.
    `single_writer`: you vouch that nothing else ever writes to the run, so that a store which cannot keep two launchers
    apart (it ignores If-None-Match) is good enough.
    `recipe` (JSON): how the model is made, kept beside the state for exports.

    `loggers` are told the loss of every `log_every`-th step, by rank 0, and what is put in `progress.metrics`.
    """

    every: Every | int | str = "5m"
    memory_every: int | Literal["auto", "never"] = "auto"
    when_busy: WhenBusy | str = WhenBusy.DEFER
    arenas: int = 2
    overlap: bool = False
    overhead: float = 0.01
    keep_last: int = 3
    keep_every: Every | int | str | None = None
    keep_best: Best | None = None
    pin: Sequence[int] = ()
    deadline_s: float = 300.0
    max_failed_saves: int = 5
    single_writer: bool = False
    identity: Mapping[str, str | int] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    loggers: Sequence[Logger] = ()
    log_every: int = 1

    @property
    def interval(self) -> Every | Literal["auto"]:
        """Raises ValueError for an `every` that is none."""
        return "auto" if self.every == "auto" else _interval(self.every)

    @property
    def answer(self) -> WhenBusy:
        """Raises ValueError for a `when_busy` that is none."""
        try:
            return WhenBusy(self.when_busy)
        except ValueError:
            raise ValueError(f"when_busy: expected {', '.join(WhenBusy)}; got {self.when_busy!r}") from None

    def chronicle(self, events: Events) -> Chronicle:
        """What tells the loggers, and the journal, how the run goes."""
        return Chronicle(events, self.loggers, origin=origin(), log_every=self.log_every)

    def saving(self, origin: Origin) -> SaveSettings:
        """Raises ValueError for a rule that cannot be."""
        every = Every() if self.keep_every is None else _interval(self.keep_every)
        rules = Rules(
            keep_last=self.keep_last,
            every_steps=every.steps,
            every_s=every.seconds,
            best=self.keep_best,
            pinned=tuple(self.pin),
        )
        processors = len(os.sched_getaffinity(0)) // origin.local_world_size
        return SaveSettings(
            deadline_s=self.deadline_s,
            rules=rules,
            arenas=self.arenas,
            memory_dir=origin.memory_dir,
            copy_threads=max(1, min(processors, _MOST_COPY_THREADS)),
            overlap=self.overlap,
        )


def _interval(every: Every | int | str) -> Every:
    return every if isinstance(every, Every) else Every.parse(every)
