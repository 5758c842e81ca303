"""The books of one launcher's life: each nanosecond is booked under one heading, the moment it has passed.

Pure: whoever keeps them says what happened and when. Time is never added or taken away but by passing, only moved from
one heading to another, so the headings add up to the wall clock whatever happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ...configs.heartbeat import Beat, Phase
from .course import Course, Mark


class Heading(StrEnum):
    PRODUCTIVE = "productive"
    """Steps that stand, and evaluation."""
    STALL = "staging_stall"
    """Training stood still for a copy of the state, or for a save."""
    RESTORE = "restore"
    RESTART = "restart"
    """From a failure to the first new step, without what belongs to restore and waiting."""
    LOST = "lost_work"
    """Steps that had to be done again."""
    WAITING = "waiting"
    """For other hosts, or because too many failures came in a row."""
    STARTUP = "startup"
    """Until the first step of a launcher's life, and what is left to do after the last one."""


REGROUPED: Final = "REGROUPED"
"""The cause, where the workers here were well and another host's were not."""
HOST_LOST: Final = "HOST_LOST"
_RECOVERY: Final = frozenset({Heading.RESTORE, Heading.RESTART, Heading.WAITING})
_NO_FAULT: Final = frozenset({"PREEMPTED", "BAD_CONFIG"})
"""Classes at whose end the work was not in vain."""


@dataclass(slots=True)
class _Attempt:
    """`told`: some worker has beaten. `at_work`: a step of this attempt is done, or one is being evaluated."""

    running: bool = False
    told: bool = False
    resumed: bool = False
    at_work: bool = False
    failed: bool = False
    beginning: Heading = Heading.STARTUP
    silent_ns: int = 0
    stall_ns: int = 0
    loose_ns: int = 0
    came_back_ns: int | None = None


class Books:
    """What happened is told by calls, each with the moment (nanoseconds of a clock that never goes back)."""

    def __init__(self, began_ns: int) -> None:
        self._began_ns = self._now_ns = began_ns
        self._heading = Heading.STARTUP
        self._evaluating = False
        self._fell_ns: int | None = None
        self._cause = ""
        self._course = Course()
        self._attempt = _Attempt()
        self.booked: dict[Heading, int] = dict.fromkeys(Heading, 0)
        self.evaluation_ns = 0
        self.lost_by_cause: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.restarts = self.steps_redone = 0
        self.step = self.committed_step = -1
        self.resumed_step: int | None = None
        """The earliest step that an attempt of this life went on from."""
        self.doing = "starting"

    @property
    def wall_ns(self) -> int:
        return self._now_ns - self._began_ns

    @property
    def came_back_ns(self) -> int | None:
        """From the failure before this attempt to its first new step, if it has come so far."""
        return self._attempt.came_back_ns

    def until(self, now_ns: int) -> None:
        """Book what has passed."""
        passed = max(0, now_ns - self._now_ns)
        self._now_ns += passed
        self.booked[self._heading] += passed
        if self._evaluating:
            self.evaluation_ns += passed
        if self._heading is Heading.STALL:
            self._attempt.stall_ns += passed
        if self._cause and self._heading in _RECOVERY:
            self.lost_by_cause[self._cause] += passed
        if self._attempt.running and not self._attempt.told:
            self._attempt.silent_ns += passed

    def waits(self, now_ns: int) -> None:
        """The next attempt has to wait: for other hosts, or for the time to be up."""
        self._turn(now_ns, Heading.WAITING, "waiting")

    def begins(self, now_ns: int) -> None:
        """The workers of an attempt are started."""
        again = self._fell_ns is not None
        self._turn(now_ns, Heading.RESTART if again else Heading.STARTUP, "starting")
        if again and not self._cause:
            self._cause = REGROUPED
        self._attempt = _Attempt(running=True, beginning=self._heading)

    def observes(self, now_ns: int, beats: Mapping[int, Beat]) -> None:
        """The newest beats of the workers. The lowest rank speaks for all: they go in step."""
        self.until(now_ns)
        if not beats or not self._attempt.running:
            return
        beat = beats[min(beats)]
        self._attempt.told = True
        self.committed_step = max(self.committed_step, *(each.committed_step for each in beats.values()))
        self._settle_stall(beat)
        if beat.phase >= Phase.TRAINING:
            self._follow(beat)
        self._turn(now_ns, self._heading_of(beat.phase), beat.phase.name.lower())
        self._evaluating = beat.phase is Phase.EVALUATING

    def ends(self, now_ns: int, *, failed: bool) -> None:
        """A worker of the attempt has ended; they all have, or are about to."""
        attempt = self._attempt
        self.until(now_ns)
        attempt.running = False
        attempt.failed |= failed
        if self._fell_ns is None:
            self._fell_ns = self._now_ns
        if attempt.resumed and self._course.last is not None:
            attempt.loose_ns = self.booked[Heading.PRODUCTIVE] - self._course.last.productive_ns
        self._turn(now_ns, Heading.RESTART if attempt.failed else Heading.WAITING, "ending")

    def fails(self, now_ns: int, kind: str) -> None:
        """Why it ended. What was done of a step that never got finished is lost."""
        self.until(now_ns)
        self.failures[kind] += 1
        if kind not in _NO_FAULT:
            self._drop_unfinished(kind)

    def regroups(self, now_ns: int, kind: str = REGROUPED) -> None:
        """The attempt is over because of another host, where `kind` has happened."""
        self.until(now_ns)
        self._drop_unfinished(kind)
        self.waits(now_ns)

    def closes(self, now_ns: int) -> None:
        """No further attempt."""
        self._turn(now_ns, Heading.STARTUP, "ending")
        attempt = self._attempt
        if not (attempt.running or attempt.told or attempt.failed):
            # Workers that told nothing, and ended well, were at work for all that is known.
            self._move(attempt.beginning, Heading.PRODUCTIVE, attempt.silent_ns)
            attempt.silent_ns = 0

    def _turn(self, now_ns: int, heading: Heading, doing: str) -> None:
        self.until(now_ns)
        self._heading, self._evaluating, self.doing = heading, False, doing

    def _heading_of(self, phase: Phase) -> Heading:
        if phase is Phase.RESTORING:
            return Heading.RESTORE
        if phase is Phase.SAVING:
            return Heading.STALL  # Until the rank says how long it took.
        if phase is Phase.FINISHED:
            return Heading.STARTUP
        if self._attempt.at_work:
            return Heading.PRODUCTIVE
        return Heading.STARTUP if self._fell_ns is None else Heading.RESTART

    def _settle_stall(self, beat: Beat) -> None:
        """The rank counts exactly; what was booked by its phase, as it looked from here, is put right."""
        attempt = self._attempt
        if beat.phase is Phase.SAVING and beat.stalled_ns <= attempt.stall_ns:
            return
        told_ns = beat.stalled_ns
        if told_ns > attempt.stall_ns:
            floor_ns = self._course.last.productive_ns if self._course.last is not None else 0
            self._move(Heading.PRODUCTIVE, Heading.STALL, told_ns - attempt.stall_ns, floor_ns)
        elif attempt.at_work:
            self._move(Heading.STALL, Heading.PRODUCTIVE, attempt.stall_ns - told_ns)
        attempt.stall_ns = told_ns

    def _follow(self, beat: Beat) -> None:
        attempt = self._attempt
        if not attempt.resumed:
            attempt.resumed = True
            self._go_on_from(max(beat.resumed_step, 0))
        if beat.step > self.step:
            self.step = beat.step
            self._course.add(Mark(beat.step, self.booked[Heading.PRODUCTIVE], self.evaluation_ns))
            self._back_at_work()
        elif beat.phase is Phase.EVALUATING:
            self._back_at_work()

    def _back_at_work(self) -> None:
        attempt = self._attempt
        attempt.at_work = True
        if self._fell_ns is not None:
            attempt.came_back_ns = self._now_ns - self._fell_ns
            self.restarts += 1
        self._fell_ns, self._cause = None, ""

    def _go_on_from(self, step: int) -> None:
        """What was done after `step` was in vain, if anything was."""
        self.resumed_step = step if self.resumed_step is None else min(step, self.resumed_step)
        if self._course.last is None:
            self._course.add(Mark(step, self.booked[Heading.PRODUCTIVE], self.evaluation_ns))
        elif step < self.step:
            self.steps_redone += self.step - step
            self._drop(self._course.back_to(step), Heading.LOST, self._cause)
        self.step = step

    def _drop_unfinished(self, cause: str) -> None:
        """The time since the last finished step. Of a hang it is the time until it was noticed."""
        self._cause = cause
        if self._attempt.loose_ns and self._course.last is not None:
            if cause == "HANG" and self._fell_ns is not None:
                self._fell_ns -= self._attempt.loose_ns
            self._attempt.loose_ns = 0
            self._drop(self._course.last, Heading.RESTART if cause == "HANG" else Heading.LOST, cause)

    def _drop(self, back_to: Mark, heading: Heading, cause: str) -> None:
        lost_ns = self.booked[Heading.PRODUCTIVE] - back_to.productive_ns
        self._move(Heading.PRODUCTIVE, heading, lost_ns)
        self.lost_by_cause[cause] += lost_ns
        self.evaluation_ns = back_to.evaluation_ns

    def _move(self, source: Heading, target: Heading, amount_ns: int, floor_ns: int = 0) -> None:
        """At most what is there above `floor_ns`."""
        moved = max(0, min(amount_ns, self.booked[source] - floor_ns))
        self.booked[source] -= moved
        self.booked[target] += moved
        self.evaluation_ns = min(self.evaluation_ns, self.booked[Heading.PRODUCTIVE])
