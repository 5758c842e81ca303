"""From a restore to the end: what is done at every step boundary, by all ranks alike."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from ...configs.events import Events
from ...configs.heartbeat import Phase
from ..agreement import Agreement, Votes
from ..metrics.logger import Outcome
from ..notices import say
from ..pulse import Pulse
from ..signals import StopFlag
from .cadence import Cadence, Pace
from .collective import Circle
from .ledger import Ledger
from .meter import Meter
from .progress import Progress
from .saving import Saver
from .settings import CheckpointSettings, WhenBusy
from .state import Captured, Parts, capture

_ROUND_S = 0.5
_MARGIN_S = 60.0
"""Beyond its deadline, for what a save takes on the trainer's side: memory for an arena is waited for as long."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What outlives a session or is made before it."""

    circle: Circle
    agreement: Agreement
    pulse: Pulse
    events: Events
    stop: StopFlag
    settings: CheckpointSettings


class Session:
    """Saves when it is due, copies in memory in between, hears what the ranks know. Every method is a collective."""

    def __init__(self, tools: Tools, parts: Parts, progress: Progress, saver: Saver, cadence: Cadence) -> None:
        self._tools = tools
        self._circle = tools.circle
        self._settings = tools.settings
        self._answer = tools.settings.answer
        self._parts = parts
        self._progress = progress
        self.saver = saver
        self._cadence = cadence
        self._pace = Pace(self._settings.memory_every if saver.keeps else "never", overhead=self._settings.overhead)
        self._pace.start(progress.step)
        self._meter = Meter()
        self._chronicle = self._settings.chronicle(tools.events)
        self._ledger = Ledger(self._circle.rank, self._settings.max_failed_saves, heard=self._chronicle.saved)
        self._staged: dict[str, Any] | None = None
        self._stepped = False
        self._loss: torch.Tensor | float | None = None
        self._put_off = False
        self._prepared = False

    def resumed(self, *, durable: bool) -> None:
        """The state is that of a checkpoint; `durable`: of one that is committed."""
        self._tools.pulse.resumed(self._progress.step)
        if durable:
            self._staged = self._progress.facts()
            self._ledger.resumed(self._progress.step)

    def begin_training(self) -> None:
        """The first step of a life is waited for longer: much is made and compiled in it."""
        lineage, progress = self.saver.lineage, self._progress
        self._chronicle.begin(run=lineage.run, url=lineage.url, step=progress.step, metrics=progress.metrics)
        self.beat(Phase.TRAINING)
        self._tools.pulse.expect(self._tools.pulse.allowances.start_s)

    def begin_epoch(self) -> None:
        """And so is the first one of an epoch: loader workers start."""
        if self._stepped:
            self.beat(Phase.TRAINING)
            self._tools.pulse.expect(self._tools.pulse.allowances.epoch_s)

    def step(self, loss: torch.Tensor | float | None) -> bool:
        """After every optimizer step. True: told to stop, and the state is saved."""
        self._stepped = True
        self.finish_staging()
        self._meter.begin()
        if not self._prepared and self._meter.step_s is not None:
            self._prepared = True  # Not sooner: after a restart the first step is waited for.
            self.saver.prepare(self._capture())
        self._loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
        self._chronicle.step(self._progress.step, self._loss, self._progress.metrics)
        agreed = self._hear(self._tools.agreement.read())
        if agreed.stop:
            self._stop()
            return True
        step = self._progress.step
        if self._cadence.note(step, agreed=agreed.save_due):
            self._save_if_possible(agreed)
        elif self._pace.note(step, agreed=agreed.snapshot_due):
            self._keep()
        self._tools.agreement.start(self._votes())
        self._meter.end(busy=self.saver.busy)
        self.beat(Phase.TRAINING, allowance_s=self._tools.pulse.until_next_step_s(self._progress.batch_left))
        return False

    def pause(self, phase: Phase) -> None:
        """The next step will take longer, for a reason that is no part of it."""
        self._meter.pause()
        self.beat(phase)

    def finish_staging(self) -> None:
        """Wait for the copy that was left behind the training."""
        began = time.monotonic()
        self.saver.finish_staging()
        stall_s = time.monotonic() - began
        self._tools.pulse.stalled(stall_s)
        self._chronicle.stalls(stall_s)

    def finish(self) -> str:
        """Commit the final state. Returns what went wrong, on every rank alike."""
        self.finish_staging()
        self._chronicle.evaluated(self._progress.step, self._progress.metrics)
        self._hear(self._tools.agreement.read())
        trouble = self._end()
        self._chronicle.end(Outcome.FAILED if trouble else Outcome.FINISHED)
        return trouble

    def _stop(self) -> None:
        step = self._progress.step
        if trouble := self._end():
            self._say(f"the state could not be saved; the next start goes on from an older checkpoint: {trouble}")
        else:
            self._say(f"told to stop: saved step {step}. Run the same command again to go on")
        self._chronicle.end(Outcome.PREEMPTED)

    def _save_if_possible(self, agreed: Votes) -> None:
        """A save is due. While an earlier one is being written the settings say what happens; all ranks do the same."""
        policy = self._answer
        blocked = agreed.full if policy is WhenBusy.QUEUE else agreed.busy
        if blocked and not self._put_off:
            self._tools.events.tell("save meets another", step=self._progress.step, answer=policy.value)
        self._put_off = blocked and policy in (WhenBusy.DEFER, WhenBusy.QUEUE)
        if blocked and policy is WhenBusy.WAIT:
            self._settle()
            blocked = False
        if not blocked:
            self._save()
        elif policy is WhenBusy.SKIP:
            self._cadence.saved()

    def _save(self) -> None:
        began = time.monotonic()
        self._ledger.begin(self._progress.step)
        self._beat_saving()
        if self._loss is not None:
            self._progress.loss = self._circle.mean(float(self._loss))
        self._staged = self._progress.facts()
        self.saver.save(self._capture(), self._progress)
        stall_s = time.monotonic() - began
        self._meter.saved(stall_s)
        self._tools.pulse.stalled(stall_s)
        self._chronicle.saves(self._progress.step, stall_s)
        self._cadence.saved()
        self._pace.copied(self._progress.step)

    def _keep(self) -> None:
        began = time.monotonic()
        self._beat_saving()
        self.saver.keep(self._capture(), self._progress)
        stall_s = time.monotonic() - began
        self._meter.snapshot(stall_s)
        self._tools.pulse.stalled(stall_s)
        self._chronicle.settle()
        self._pace.copied(self._progress.step)

    def _capture(self) -> Captured:
        return capture(self._parts, self._progress.facts(), self._circle.rank, self._settings.recipe)

    def _end(self) -> str:
        """Save what is not saved yet, wait for all ranks, and close. Returns what went wrong, on every rank alike."""
        agreed = self._settle()
        saved = self._staged == self._progress.facts() and agreed.committed_step == self._progress.step
        if not saved and not agreed.busy:
            self._save()
            agreed = self._settle()
        trouble = self._circle.tell((self._ledger.last_failure or "it took too long").encode()).decode()
        if agreed.committed_step != self._progress.step:
            return trouble
        self.saver.close()
        return ""

    def _settle(self) -> Votes:
        """Let the saves under way come to their end, and hear how it went on all ranks as soon as one of them knows."""
        began = time.monotonic()
        self._beat_saving()
        for _ in range(math.ceil(self._settings.deadline_s / _ROUND_S)):  # Counted, not timed: all ranks do as many.
            self.saver.wait(_ROUND_S)
            agreed = self._hear(self._tools.agreement.agree(self._votes()))
            if not agreed.busy:
                break
        self._tools.pulse.stalled(time.monotonic() - began)
        return agreed

    def _votes(self) -> Votes:
        """What this rank asks for and knows."""
        first = self._circle.rank == 0
        busy = self.saver.busy  # Asked first: a save that ends in between is heard of at the next step, not lost.
        while outcome := self.saver.outcome():
            self._ledger.enter(outcome)
        self._learn()
        return Votes(
            stop=bool(self._tools.stop),
            save_due=first and self._cadence.asks,
            snapshot_due=first and self._pace.asks(self._progress.step, self._meter),
            busy=busy,
            full=self.saver.full,
            committed_step=self._ledger.committed_step,
            failed_step=self._ledger.failed_step,
        )

    def _learn(self) -> None:
        cost_s, self._meter.save_cost_s = self._meter.save_cost_s, None
        if cost_s is not None and self._circle.rank == 0 and (advice := self._cadence.learn(cost_s)):
            self._tools.events.tell("interval", step=self._progress.step, **advice.facts)

    def _hear(self, agreed: Votes | None) -> Votes:
        if agreed is None:
            return Votes()
        self._ledger.hear(agreed)
        self.saver.heard(agreed.failed_step)
        return agreed

    def beat(self, phase: Phase, *, allowance_s: float | None = None) -> None:
        step, committed_step = self._progress.step, self._ledger.committed_step
        self._tools.pulse.beat(phase, step=step, committed_step=committed_step, allowance_s=allowance_s)

    def _beat_saving(self) -> None:
        self.beat(Phase.SAVING, allowance_s=self._settings.deadline_s + _MARGIN_S)

    def _say(self, line: str) -> None:
        if self._circle.rank == 0:
            say(line)
