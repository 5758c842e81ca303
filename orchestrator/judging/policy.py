"""What to do after a failure. A pure function of the failure and of what happened before it: no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from ...configs.protocol import ExitCode
from .failures import Failure, FailureClass


@dataclass(frozen=True, slots=True)
class Settings:
    """`max_restarts` is `--max-restarts` when the user gave it: a cap on all restarts together; None: no cap."""

    max_without_progress: int = 5
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    max_restarts: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What happened so far in this launcher's life. `without_progress` counts the failures since a step was
    committed, or gone on from, that was not at the failure before; the newest ones seen are kept, -1: none.
    """

    failures: int = 0
    without_progress: int = 0
    committed_step: int = -1
    resumed_step: int = -1
    last_signature: tuple[str, int] | None = None

    def committed_more(self, failure: Failure) -> bool:
        return failure.committed_step > self.committed_step

    def progressed(self, failure: Failure) -> bool:
        """Copies in memory count: a run that goes on from them gets on, though nothing was committed in between."""
        return self.committed_more(failure) or failure.resumed_step > self.resumed_step

    def after(self, failure: Failure) -> Self:
        return type(self)(
            failures=self.failures + 1,
            without_progress=1 if self.progressed(failure) else self.without_progress + 1,
            committed_step=max(self.committed_step, failure.committed_step),
            resumed_step=max(self.resumed_step, failure.resumed_step),
            last_signature=failure.signature,
        )


@dataclass(frozen=True, slots=True)
class Restart:
    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    exit_code: ExitCode
    reason: str


_ANSWERS: Final = {
    FailureClass.PREEMPTED: Stop(ExitCode.PREEMPTED, "told to stop; run the same command again to continue"),
    FailureClass.BAD_CONFIG: Stop(ExitCode.BAD_CONFIG, "restarting cannot make a wrong configuration right"),
    FailureClass.GAVE_UP: Stop(ExitCode.GAVE_UP, "the workers say that starting again cannot help"),
}


def decide(failure: Failure, history: History, settings: Settings) -> Restart | Stop:
    """Restart or stop, and why. `history` is what happened before `failure`."""
    if failure.kind in _ANSWERS:
        return _ANSWERS[failure.kind]
    if _is_the_same_bug(failure, history):
        return Stop(ExitCode.GAVE_UP, "the same error at the same step again, and nothing was committed in between")
    now = history.after(failure)
    if now.without_progress >= settings.max_without_progress:
        reason = f"{now.without_progress} failures in a row without a newly committed step"
        return Stop(ExitCode.GAVE_UP, reason)
    if settings.max_restarts is not None and history.failures >= settings.max_restarts:
        return Stop(ExitCode.GAVE_UP, f"--max-restarts={settings.max_restarts} is used up")
    return Restart(_delay_s(now, settings), _why_restart(now))


def _is_the_same_bug(failure: Failure, history: History) -> bool:
    return (
        failure.kind is FailureClass.USER_BUG
        and failure.signature == history.last_signature
        and not history.committed_more(failure)
    )


def _delay_s(now: History, settings: Settings) -> float:
    """The first restart is immediate; then the delay doubles for as long as there is no progress."""
    if now.without_progress == 1:
        return 0.0
    return min(settings.backoff_s * 2.0 ** min(now.without_progress - 2, 64), settings.backoff_max_s)


def _why_restart(now: History) -> str:
    if now.without_progress == 1:
        return "a step was committed since the last failure" if now.failures > 1 else "first failure"
    return f"failure {now.without_progress} in a row without a newly committed step"
