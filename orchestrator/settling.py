"""What comes of an attempt that is over: the exit code, or another attempt. Decisions are `policy.decide`'s."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..configs.protocol import ExitCode
from . import preflight, report
from .hosts.meeting import AllFinished, Broken, Rendezvous
from .journal import Journal
from .judging.failures import Failure, FailureClass, classify
from .judging.policy import History, Stop, decide
from .notices import Notices, wait_for_any
from .watch import Outcome

if TYPE_CHECKING:
    from .launcher import LaunchSpec


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
        self._storage_errors = preflight.storage_errors()

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
        failure = classify(outcome.evidence, self._storage_errors)
        if outcome.stopped_by is not None:
            return self._settle_stop(outcome.stopped_by, failure)
        if outcome.broken is not None:
            self._say(f"starting again together: {outcome.broken}")
            self._journal.record("regrouped", attempt=self._attempt, reason=outcome.broken)
            return None
        if failure is None:
            return self._settle_finish()
        return self._settle_failure(failure)

    def _settle_stop(self, number: signal.Signals, failure: Failure | None) -> int:
        self._journal.record("stopped", attempt=self._attempt, signal=number.name)
        if failure is None and self._spec.entry.kind == "call":
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
                    self._say(f"starting again together: {news.reason}")
                    return None

    def _settle_failure(self, failure: Failure) -> int | None:
        decision = decide(failure, self._history, self._spec.settings)
        self._history = self._history.after(failure)
        facts = asdict(failure) | {"kind": failure.kind.name, "details": failure.details[-2000:]}
        self._journal.record("failed", attempt=self._attempt, **facts)
        self._journal.record("decided", attempt=self._attempt, decision=type(decision).__name__, **asdict(decision))
        if isinstance(decision, Stop):
            self._say(report.stopping(failure, decision, socket.gethostname(), self._attempt))
            return decision.exit_code
        self._say(report.restarting(failure, decision, self._attempt + 1))
        self._back_off(decision.delay_s)
        return None

    def _back_off(self, delay_s: float) -> None:
        ends_at = time.monotonic() + delay_s
        while (left := ends_at - time.monotonic()) > 0:
            wait_for_any(self._notices, timeout_s=left)
            self._notices.stop_if_asked()
