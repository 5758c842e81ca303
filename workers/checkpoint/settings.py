"""How a run is checkpointed: what a user may choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...configs.every import Every
from ...storage.retention import Best, Rules
from .saving import SaveSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """`every`: steps (50) or a time ("5m"). `identity`: what another run at the same URL would differ in.

    Kept are the `keep_last` newest checkpoints, one in `keep_every` (steps or a time), the best by a metric, and the
    steps in `pin`. `deadline_s`: how long a save may take. `max_failed_saves`: so many failures in a row stop the run.
    """

    every: Every | int | str = "5m"
    keep_last: int = 3
    keep_every: Every | int | str | None = None
    keep_best: Best | None = None
    pin: Sequence[int] = ()
    deadline_s: float = 300.0
    max_failed_saves: int = 5
    identity: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def interval(self) -> Every:
        """Raises ValueError for an `every` that is none."""
        return _interval(self.every)

    @property
    def saving(self) -> SaveSettings:
        """Raises ValueError for a rule that cannot be."""
        every = Every() if self.keep_every is None else _interval(self.keep_every)
        rules = Rules(
            keep_last=self.keep_last,
            every_steps=every.steps,
            every_s=every.seconds,
            best=self.keep_best,
            pinned=tuple(self.pin),
        )
        return SaveSettings(deadline_s=self.deadline_s, rules=rules)


def _interval(every: Every | int | str) -> Every:
    return every if isinstance(every, Every) else Every.parse(every)
