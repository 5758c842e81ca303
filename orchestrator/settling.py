"""What comes of an attempt that is over: the exit code, or another attempt. Decisions are `policy.decide`'s."""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ..configs.protocol import ExitCode
from . import report
from .evidence import Witness
from .hosts.meeting import AllFinished, Broken, Cause, Rendezvous
from .journal import Journal
from .judging.causes import classify
from .judging.failures import Failure, FailureClass
from .judging.hangs import failure_of
from .judging.policy import History, Stop, decide
from .notices import Notices, wait_for_any
from .watch import Outcome

if TYPE_CHECKING:
    from .launcher import LaunchSpec

_HOST_EVENTS: Final = {Cause.LOST: "host lost", Cause.LEFT: "host left"}
_ENDINGS: Final = {
    FailureClass.PREEMPTED: ExitCode.PREEMPTED,
    FailureClass.BAD_CONFIG: ExitCode.BAD_CONFIG,
    FailureClass.GAVE_UP: ExitCode.GAVE_UP,
}
"""What the workers of one host say holds for all of them."""


class Settling:
    """Remembers the failures of one launcher's life; says and records what it decides."""

    def __init__(
        self, spec: LaunchSpec, rendezvous: Rendezvous, notices: Notices, journal: Journal, say: Callable[[str], None]
    ) -> None:
        self._spec = spec
        self._rendezvous = rendezvous
        self._notices = notices
        self._journal = journal
        self._say = say
        self._attempt = 0
        self._history = History()
        self._witness = Witness(spec.streams, spec.settings.rules, say)
        self._chance = random.SystemRandom()
        self.excluded = False
        """A rule says that this host is at fault: the others go on without it."""

    @property
    def failures(self) -> int:
        return self._history.failures

    def settle(self, outcome: Outcome, attempt: int) -> int | None:
        """The exit code, or None for another attempt.

        Raises:
            Stopped: a signal came while the next attempt was waited for.
        """
        self._attempt = attempt
        if outcome.overdue:
            self._say(
                f"killed after {self._spec.preemption_deadline_s:g} s: rank {', '.join(map(str, outcome.overdue))}"
            )
        if outcome.interrupted:
            return ExitCode.INTERRUPTED
        failure = classify(outcome.evidence, self._witness.surroundings(outcome.evidence, attempt))
        if outcome.hang is not None and (failure is None or not failure.told):
            failure = failure_of(outcome.hang)  # All were killed for it: their ends say nothing, but a report does.
        if outcome.stopped_by is not None:
            return self._settle_stop(outcome.stopped_by, failure, finished=outcome.finished)
        if outcome.broken is not None and _explains(outcome.broken, failure, outcome):
            return self._regroup(outcome.broken)
        if failure is None:
            return self._settle_finish()
        first = self._first_cause(failure)
        return self._settle_failure(failure) if first.ours else self._regroup(first)

    def _first_cause(self, failure: Failure) -> Broken:
        """Of all hosts: this failure, or what another host has said before us."""
        self._rendezvous.accuse(failure)
        told_to_stop = failure.kind is FailureClass.PREEMPTED
        while True:
            wait_for_any(self._notices, self._rendezvous)
            self._notices.stop_if_asked()
            for news in self._rendezvous.news():
                if isinstance(news, Broken) and (told_to_stop or not news.gentle):
                    return news

    def _regroup(self, broken: Broken) -> int | None:
        """Another host judges its failure; here it counts as if it were ours, so that all hosts judge alike."""
        facts: dict[str, object] = {"reason": str(broken), "cause": broken.cause.value, "by": broken.host}
        failure = broken.failure
        if failure is not None:
            facts |= {"kind": failure.kind.name, "rank": failure.rank, "what": failure.what, "step": failure.step}
            self._history = self._history.after(failure, time.monotonic())
        if broken.cause in _HOST_EVENTS:
            self._journal.record(_HOST_EVENTS[broken.cause], attempt=self._attempt, reason=broken.reason)
        self._journal.record("regrouped", attempt=self._attempt, **facts)
        if failure is not None and failure.kind in _ENDINGS:
            self._say(f"ended by {broken}")
            return _ENDINGS[failure.kind]
        self._say(f"starting again together: {broken}")
        return None

    def _settle_stop(self, number: signal.Signals, failure: Failure | None, *, finished: bool) -> int:
        self._journal.record("stopped", attempt=self._attempt, signal=number.name)
        if finished and self._spec.entry.kind == "call":
            return ExitCode.FINISHED  # Our own workers say 0 only when the training is done.
        if failure is not None and failure.kind in (FailureClass.BAD_CONFIG, FailureClass.GAVE_UP):
            return self._settle_failure(failure) or ExitCode.PREEMPTED
        self._say(f"stopped by {number.name} with exit code {ExitCode.PREEMPTED.value}: run the same command again")
        return ExitCode.PREEMPTED

    def _settle_finish(self) -> int | None:
        """Our workers have finished. Another host's may have failed meanwhile, and then all start again."""
        self._rendezvous.finish()
        while True:
            wait_for_any(self._notices, self._rendezvous)
            if self._notices.take():
                return ExitCode.FINISHED
            for news in self._rendezvous.news():
                if isinstance(news, AllFinished):
                    return ExitCode.FINISHED
                if isinstance(news, Broken):
                    return self._regroup(news)

    def _settle_failure(self, failure: Failure) -> int | None:
        now_s = time.monotonic()
        settings, rule = self._spec.settings, self._witness.rule_for(failure, self._attempt)
        decision = decide(failure, self._history, settings, now_s=now_s, chance=self._chance.random(), rule=rule)
        self._history = self._history.after(failure, now_s)
        scene = self._scene(failure)
        self._record(failure, scene)
        self._journal.record("decided", attempt=self._attempt, decision=type(decision).__name__, **asdict(decision))
        if isinstance(decision, Stop):
            self._exclude(decision)
            self._say(report.stopping(failure, decision, scene))
            return decision.exit_code
        self._say(report.restarting(failure, decision, scene))
        self._back_off(decision.delay_s)
        return None

    def _scene(self, failure: Failure) -> report.Scene:
        ago_s = (time.monotonic_ns() - failure.at_ns) / 1e9 if failure.at_ns else 0.0
        return report.Scene(
            host=socket.gethostname(),
            attempt=self._attempt,
            at=datetime.fromtimestamp(time.time() - max(0.0, ago_s), UTC).astimezone(),
            logs=self._witness.logs(failure.rank, self._attempt),
            journal=self._journal.place,
        )

    def _record(self, failure: Failure, scene: report.Scene) -> None:
        facts = asdict(failure) | {"kind": failure.kind.name, "details": failure.details[-2000:]}
        del facts["at_ns"]
        self._journal.record("failed", attempt=self._attempt, **facts | {"at": round(scene.at.timestamp(), 3)})

    def _exclude(self, stop: Stop) -> None:
        if stop.excludes and self._spec.meeting.max_nodes > 1:
            self.excluded = True
            self._journal.record("excluded", attempt=self._attempt, reason=stop.reason)

    def _back_off(self, delay_s: float) -> None:
        ends_at = time.monotonic() + delay_s
        while (left := ends_at - time.monotonic()) > 0:
            wait_for_any(self._notices, timeout_s=left)
            self._notices.stop_if_asked()


def _explains(broken: Broken, failure: Failure | None, outcome: Outcome) -> bool:
    """Whether the workers ended because another host wanted it, and not for a reason of their own meanwhile."""
    if not broken.gentle:
        return True
    if failure is None:
        return not outcome.finished
    told_or_torn = failure.kind in (FailureClass.PREEMPTED, FailureClass.COMMUNICATION)
    return told_or_torn or failure.signal_name == "SIGTERM"  # A script that knows no notices dies of one.
