"""A rank's sign of life, for the launcher that watches it; silence when nobody does."""

from __future__ import annotations

from ..configs.heartbeat import Heartbeat, Phase
from .origin import Origin


class Pulse:
    """Remembers the step, so that whoever changes the phase need not know it."""

    def __init__(self, origin: Origin) -> None:
        self._heartbeat = Heartbeat(origin.run_dir, origin.rank) if origin.run_dir is not None else None
        self._step = -1
        self._committed_step = -1
        self._resumed_step = -1

    def resumed(self, step: int) -> None:
        """This life goes on from `step`."""
        self._resumed_step = step

    def beat(self, phase: Phase, *, step: int | None = None, committed_step: int | None = None) -> None:
        """Now, in this phase. A step or commit that is not given is as it was (-1: none yet)."""
        if step is not None:
            self._step = step
        if committed_step is not None:
            self._committed_step = max(self._committed_step, committed_step)
        if self._heartbeat is not None:
            self._heartbeat.beat(
                phase, step=self._step, committed_step=self._committed_step, resumed_step=self._resumed_step
            )
