"""One attempt, from the first worker's birth to the last worker's end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..configs.failure import read_failure
from ..configs.heartbeat import read_beat
from .environment import error_file
from .forking.group import Exit, Group
from .hosts.meeting import Broken, Rendezvous
from .judging.failures import ANSWERS, ExitEvidence, describe
from .notices import Notices, wait_for_any
from .report import asked_to_stop


@dataclass(slots=True)
class Outcome:
    """How an attempt ended.

    `evidence` is one entry a rank. `stopped_by` is the first signal that asked for the end, `interrupted` whether a
    second Ctrl-C ended it at once, `broken` why another host ended the round, `overdue` the ranks that were killed
    because they did not end by themselves in time.
    """

    evidence: list[ExitEvidence] = field(default_factory=list)
    stopped_by: signal.Signals | None = None
    interrupted: bool = False
    broken: str | None = None
    overdue: tuple[int, ...] = ()


@dataclass(slots=True)
class Watch:
    """Hears of every end within milliseconds, and sees to it that all workers end when one has.

    `run_dir` is this attempt's; `deadline_s` is what workers get to end by themselves once they are asked to, or once
    one of them has said why it ends. One that fails gets its peers killed at once: they wait for it in a collective.
    """

    group: Group
    notices: Notices
    rendezvous: Rendezvous
    run_dir: Path
    deadline_s: float
    say: Callable[[str], None]
    _outcome: Outcome = field(init=False, default_factory=Outcome)
    _ends_at: float | None = field(init=False, default=None)

    def run(self) -> Outcome:
        while self.group.running:
            wait_for_any(self.notices, self.group, self.rendezvous, timeout_s=self._patience_s())
            for number in self.notices.take():
                self._asked_to_stop(number)
            for ended in self.group.exits():
                self._ended(ended)
            for news in self.rendezvous.news():
                if isinstance(news, Broken) and self._outcome.stopped_by is None:
                    self._outcome.broken = self._outcome.broken or news.reason
                    self.group.kill()
            if self._ends_at is not None and time.monotonic() >= self._ends_at:
                self._overdue()
        return self._outcome

    def _patience_s(self) -> float | None:
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def _asked_to_stop(self, number: signal.Signals) -> None:
        if self._outcome.stopped_by is not None:
            if number is signal.SIGINT:
                self._outcome.interrupted = True
                self.group.kill()
            return
        self._outcome.stopped_by = number
        if not self.group.started:
            self.group.kill()  # Nothing has been done yet that would be worth saving.
            return
        self.say(asked_to_stop(number, self.deadline_s))
        for rank in self.group.running:
            self.group.signal(rank, signal.SIGTERM)
        self._expect_ends()

    def _ended(self, ended: Exit) -> None:
        evidence = self._evidence(ended)
        self._outcome.evidence.append(evidence)
        if ended.returncode in ANSWERS:
            self._expect_ends()
        elif ended.returncode != 0 and not ended.killed_by_us and self._outcome.stopped_by is None:
            self.group.kill()
            self.rendezvous.break_up(f"rank {ended.rank}: {describe(evidence)}")

    def _evidence(self, ended: Exit) -> ExitEvidence:
        return ExitEvidence(
            rank=ended.rank,
            pid=ended.pid,
            returncode=ended.returncode,
            order=len(self._outcome.evidence),
            at_ns=ended.at_ns,
            killed_by_us=ended.killed_by_us,
            report=read_failure(error_file(self.run_dir, ended.rank)),
            beat=read_beat(self.run_dir, ended.rank),
        )

    def _expect_ends(self) -> None:
        if self._ends_at is None:
            self._ends_at = time.monotonic() + self.deadline_s

    def _overdue(self) -> None:
        self._ends_at = None
        self._outcome.overdue = tuple(sorted(self.group.running))
        self.group.kill()
