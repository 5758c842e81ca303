"""How a run is checkpointed: what a user may choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...configs.every import Every


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """`every`: steps (50) or a time ("5m"). `identity`: what another run at the same URL would differ in.

    `deadline_s`: how long a save may take. `max_failed_saves`: so many failures in a row stop the run.
    """

    every: Every | int | str = "5m"
    keep_last: int = 3
    deadline_s: float = 300.0
    max_failed_saves: int = 5
    identity: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def interval(self) -> Every:
        """Raises ValueError for an `every` that is none."""
        return self.every if isinstance(self.every, Every) else Every.parse(self.every)
