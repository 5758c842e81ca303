"""One attempt, from the first worker's birth to the last worker's end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..configs.failure import read_failure
from ..configs.heartbeat import Beat, read_beat
from .environment import error_file
from .forking.group import Exit, Group
from .hosts.meeting import Broken, Rendezvous
from .judging.causes import is_echo
from .judging.failures import ANSWERS, ExitEvidence
from .judging.hangs import Hang
from .lingering import Lingering
from .notices import Notices, wait_for_any
from .report import asked_to_stop
from .vigil import TICK_S, Vigil

_CAUSE_S: Final = 1.0
"""How long a rank whose peers have seen it go may take to tell why, before it is killed with them."""


@dataclass(slots=True)
class Outcome:
    """How an attempt ended.

    `evidence` is one entry a rank. `stopped_by` is the first signal that asked for the end, `interrupted` whether a
    second Ctrl-C ended it at once, `broken` why another host ended the round, `overdue` the ranks that were killed
    because they did not end by themselves in time. `hang` is what they were killed for when they did not go on.
    """

    evidence: list[ExitEvidence] = field(default_factory=list)
    stopped_by: signal.Signals | None = None
    interrupted: bool = False
    broken: Broken | None = None
    overdue: tuple[int, ...] = ()
    hang: Hang | None = None

    @property
    def finished(self) -> bool:
        """Every worker has ended by itself, and well. Not so where none was born yet, or one was killed."""
        return bool(self.evidence) and all(each.returncode == 0 for each in self.evidence)


@dataclass(slots=True)
class Watch:
    """Hears of every end within milliseconds, and sees to it that all workers end when one has.

    `run_dir` is this attempt's; `deadline_s` is what workers get to end by themselves once they are asked to, or once
    one of them has said why it ends. One that fails gets its peers killed at once: they wait for it in a collective.
    `observe` is shown the newest beat of every local rank, by global rank, at every tick and once at the end;
    `vigil` looks for hangs in them, as long as nobody was asked to end.
    """

    group: Group
    notices: Notices
    rendezvous: Rendezvous
    run_dir: Path
    deadline_s: float
    say: Callable[[str], None]
    observe: Callable[[Mapping[int, Beat]], None] = lambda _: None
    vigil: Vigil | None = None
    _outcome: Outcome = field(init=False, default_factory=Outcome)
    _ends_at: float | None = field(init=False, default=None)
    _cause_by: float | None = field(init=False, default=None)
    _ranks: frozenset[int] = field(init=False, default=frozenset())
    _beats: dict[int, Beat] = field(init=False, default_factory=dict)
    _lingering: Lingering | None = field(init=False)

    def __post_init__(self) -> None:
        self._lingering = Lingering(self.run_dir)

    def run(self) -> Outcome:
        self._ranks = self.group.running
        while self.group.running:
            wait_for_any(self.notices, self.group, self.rendezvous, timeout_s=self._patience_s())
            for number in self.notices.take():
                self._asked_to_stop(number)
            for ended in self.group.exits():
                self._ended(ended)
            for news in self.rendezvous.news():
                if isinstance(news, Broken) and self._outcome.stopped_by is None:
                    self._broken(news)
            if self._ends_at is not None and time.monotonic() >= self._ends_at:
                self._overdue()
            if self._cause_by is not None and time.monotonic() >= self._cause_by:
                self._cause_by = None
                self._kill()
            self._look()
        self._look()
        return self._outcome

    def _patience_s(self) -> float:
        due = [moment for moment in (self._ends_at, self._cause_by) if moment is not None]
        if due:
            return min(TICK_S, max(0.0, min(due) - time.monotonic()))
        return self.vigil.due_in_s(self._beats) if self.vigil is not None else TICK_S

    def _look(self) -> None:
        beats = {rank: read_beat(self.run_dir, rank) for rank in self._ranks}
        self._beats = {rank: beat for rank, beat in beats.items() if beat is not None}
        self.observe(self._beats)
        if self._ends_at is not None or not self.group.running:
            return
        if self._lingering and (stuck := self._lingering.overstayed(self.group.running, time.monotonic())):
            self.say(f"rank {stuck[0]} has failed and does not end: killed with its peers")
            self._kill()
        if self.vigil is None:
            return
        hang = self.vigil.look(self._beats)
        if hang is not None:
            self._outcome.hang = hang
            self._kill()

    def _kill(self) -> None:
        """From here on nobody has to show signs of life."""
        self.vigil = self._lingering = None
        self.group.kill()

    def _asked_to_stop(self, number: signal.Signals) -> None:
        if self._outcome.stopped_by is not None:
            if number is signal.SIGINT:
                self._outcome.interrupted = True
                self._kill()
            return
        self._outcome.stopped_by = number
        self.rendezvous.leave(f"stopped by {number.name}")
        if not self.group.started:
            self._kill()  # Nothing has been done yet that would be worth saving.
            return
        self.say(asked_to_stop(number, self.deadline_s))
        self._ask_to_end()

    def _broken(self, news: Broken) -> None:
        """The round is over for all hosts: at once, or when the workers have saved."""
        self._outcome.broken = news
        if news.gentle and self.group.started:
            self._ask_to_end()
        else:
            self._kill()

    def _ask_to_end(self) -> None:
        for rank in self.group.running:
            self.group.signal(rank, signal.SIGTERM)
        self._expect_ends()

    def _ended(self, ended: Exit) -> None:
        evidence = self._evidence(ended)
        self._outcome.evidence.append(evidence)
        if ended.returncode in ANSWERS:
            self._expect_ends()
        elif ended.returncode != 0 and not ended.killed_by_us and self._outcome.stopped_by is None:
            if is_echo(evidence):
                self._await_cause()
            else:
                self._kill()

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

    def _await_cause(self) -> None:
        """It only says that another rank is gone: that one may still be on its way to tell why."""
        if self._cause_by is None:
            self._cause_by = time.monotonic() + _CAUSE_S

    def _expect_ends(self) -> None:
        if self._ends_at is None:
            self._ends_at = time.monotonic() + self.deadline_s

    def _overdue(self) -> None:
        self._ends_at = None
        self._outcome.overdue = tuple(sorted(self.group.running))
        self._kill()
