"""A rank's sign of life, for the launcher that watches it; silence when nobody does."""

from __future__ import annotations

import time
from typing import Final

from ..configs.heartbeat import Heartbeat, Phase
from ..configs.schema import HangConfig
from .origin import Origin

_NS: Final = 1_000_000_000


class Pulse:
    """Remembers the step, so that whoever changes the phase need not know it.

    Every beat says how long the next one may take: what is no step is allowed what the configuration gives its phase.
    """

    def __init__(self, origin: Origin, allowances: HangConfig | None = None) -> None:
        self.allowances: Final = allowances or HangConfig()
        self._by_phase: Final = {
            Phase.STARTING: self.allowances.start_s,
            Phase.RESTORING: self.allowances.restore_s,
            Phase.EVALUATING: self.allowances.evaluate_s,
        }
        self._heartbeat = Heartbeat(origin.run_dir, origin.rank) if origin.run_dir is not None else None
        self.outspoken = False
        """Whether the training loop has ever said that something takes long: then it says it each time."""
        self._phase = Phase.STARTING
        self._step = -1
        self._committed_step = -1
        self._resumed_step = -1
        self._stalled_ns = 0
        self._allowed_until = 0.0
        self.beat(Phase.STARTING)

    def resumed(self, step: int) -> None:
        """This life goes on from `step`."""
        self._resumed_step = step

    def stalled(self, seconds: float) -> None:
        """The training has stood still for so long, for staging or a save; told with the next beat."""
        self._stalled_ns += int(seconds * _NS)

    def beat(
        self,
        phase: Phase,
        *,
        step: int | None = None,
        committed_step: int | None = None,
        allowance_s: float | None = None,
    ) -> None:
        """Now, in this phase. A step or commit that is not given is as it was (-1: none yet).

        `allowance_s`: until the next beat; None: what the phase may take.
        """
        self._phase = phase
        if step is not None:
            self._step = step
        if committed_step is not None:
            self._committed_step = max(self._committed_step, committed_step)
        allowance_s = self._by_phase.get(phase, 0.0) if allowance_s is None else allowance_s
        self._allowed_until = time.monotonic() + allowance_s
        self._tell(allowance_s)

    def until_next_step_s(self, batch_left: int | None) -> float:
        """0.0, what a step takes, where nothing but one follows. At the end of an epoch loops evaluate, unannounced.

        `batch_left`: samples in the next batch of the epoch; None where that cannot be seen.
        """
        if batch_left is not None:
            return 0.0 if batch_left else self.allowances.evaluate_s
        # A loop that says what takes long need not be guessed.
        return 0.0 if self.outspoken else self.allowances.epoch_s

    def expect(self, seconds: float) -> None:
        """The next beat may take so long, counted from now, or as long as it was allowed anyway."""
        now = time.monotonic()
        self._allowed_until = max(self._allowed_until, now + seconds)
        self._tell(self._allowed_until - now)

    def _tell(self, allowance_s: float) -> None:
        if self._heartbeat is not None:
            self._heartbeat.beat(
                self._phase,
                step=self._step,
                committed_step=self._committed_step,
                resumed_step=self._resumed_step,
                allowance_s=allowance_s,
                stalled_ns=self._stalled_ns,
            )
