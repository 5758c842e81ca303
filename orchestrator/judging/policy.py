"""What to do after a failure. A pure function of the failure and of what happened before it: no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from ...configs.protocol import ExitCode
from .failures import Failure, FailureClass
from .rules import Rule, Then


@dataclass(frozen=True, slots=True)
class Settings:
    """`max_restarts` is `--max-restarts` when the user gave it: a cap on all restarts together; None: no cap.

    `max_failures` within `window_s` are answered with a restart even if steps are committed between them.
    """

    max_without_progress: int = 5
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    max_restarts: int | None = None
    max_failures: int = 100
    window_s: float = 3600.0
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """What happened so far in this launcher's life. `without_progress` counts the failures since a step was
    committed, or gone on from, that was not at the failure before; the newest ones seen are kept, -1: none.
    `moments_s` are when the failures came, on the launcher's own clock.

    A preemption is no failure and leaves no trace.
    """

    failures: int = 0
    without_progress: int = 0
    committed_step: int = -1
    resumed_step: int = -1
    last_signature: tuple[str, int] | None = None
    moments_s: tuple[float, ...] = ()

    def committed_more(self, failure: Failure) -> bool:
        return failure.committed_step > self.committed_step

    def progressed(self, failure: Failure) -> bool:
        """Copies in memory count: a run that goes on from them gets on, though nothing was committed in between."""
        return self.committed_more(failure) or failure.resumed_step > self.resumed_step

    def within(self, window_s: float, now_s: float) -> int:
        """How many failures there were in the last `window_s` seconds."""
        return sum(now_s - moment_s < window_s for moment_s in self.moments_s)

    def after(self, failure: Failure, now_s: float = 0.0) -> Self:
        if failure.kind is FailureClass.PREEMPTED:
            return self
        return type(self)(
            failures=self.failures + 1,
            without_progress=1 if self.progressed(failure) else self.without_progress + 1,
            committed_step=max(self.committed_step, failure.committed_step),
            resumed_step=max(self.resumed_step, failure.resumed_step),
            last_signature=failure.signature,
            moments_s=(*self.moments_s, now_s),
        )


@dataclass(frozen=True, slots=True)
class Restart:
    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """`excludes`: it is this host that is at fault, and others may go on without it."""

    exit_code: ExitCode
    reason: str
    excludes: bool = False


_ANSWERS: Final = {
    FailureClass.PREEMPTED: Stop(ExitCode.PREEMPTED, "told to stop; run the same command again to continue"),
    FailureClass.BAD_CONFIG: Stop(ExitCode.BAD_CONFIG, "restarting cannot make a wrong configuration right"),
    FailureClass.GAVE_UP: Stop(ExitCode.GAVE_UP, "the workers say that starting again cannot help"),
}


def decide(
    failure: Failure,
    history: History,
    settings: Settings,
    *,
    now_s: float = 0.0,
    chance: float = 0.0,
    rule: Rule | None = None,
) -> Restart | Stop:
    """Restart or stop, and why. `history` is what happened before `failure`.

    `now_s` is the launcher's own clock, `chance` a random number from 0 to 1 that draws restarts of different runs
    apart, `rule` the user's rule that matches, if one does.
    """
    verdict = _ruled(rule) if rule is not None else _verdict(failure, history)
    now = history.after(failure, now_s)
    if isinstance(verdict, Stop):
        return verdict
    if (spent := _spent(now, settings, now_s)) is not None:
        return Stop(ExitCode.GAVE_UP, spent)
    reason = _why_restart(now) if rule is None else f"{_why_restart(now)}, and {rule} matches"
    return Restart(_delay_s(now, settings, chance), reason)


def _ruled(rule: Rule) -> Stop | None:
    match rule.then:
        case Then.RETRY:
            return None
        case Then.STOP:
            return Stop(ExitCode.GAVE_UP, f"{rule} matches")
        case Then.EXCLUDE:
            return Stop(ExitCode.GAVE_UP, f"this host takes no further part: {rule} matches", excludes=True)


def _verdict(failure: Failure, history: History) -> Stop | None:
    if failure.kind in _ANSWERS:
        return _ANSWERS[failure.kind]
    if _is_the_same_again(failure, history):
        return Stop(ExitCode.GAVE_UP, "the same error at the same step again, and nothing was committed in between")
    return None


def _is_the_same_again(failure: Failure, history: History) -> bool:
    """What a third try would meet, too.

    An error in the training code is; and so is memory that runs out at a step again: that batch is too large. But
    not before the first step, when the memory of workers that were just killed may not be free yet, and not when the
    kernel killed a rank: whom it takes, and when, depends on all that runs on the host.
    """
    if failure.signature != history.last_signature or history.committed_more(failure):
        return False
    if failure.kind is FailureClass.OUT_OF_MEMORY:
        return failure.told and failure.step >= 0
    return failure.kind is FailureClass.USER_BUG


def _spent(now: History, settings: Settings, now_s: float) -> str | None:
    """Why there are no more restarts, or None."""
    if now.without_progress >= settings.max_without_progress:
        return f"{now.without_progress} failures in a row without a newly committed step"
    if settings.max_restarts is not None and now.failures > settings.max_restarts:
        return f"--max-restarts={settings.max_restarts} is used up"
    count = now.within(settings.window_s, now_s)
    if count > settings.max_failures:
        return f"{count} failures within {settings.window_s:g} s, and restart.max_failures is {settings.max_failures}"
    return None


def _delay_s(now: History, settings: Settings, chance: float) -> float:
    """The first restart is immediate; then the delay doubles for as long as there is no progress.

    Half of it is left to chance, so that runs that one storage or one switch has failed do not all come back at once.
    """
    if now.without_progress == 1:
        return 0.0
    longest_s = min(settings.backoff_s * 2.0 ** min(now.without_progress - 2, 64), settings.backoff_max_s)
    return longest_s * (1.0 + chance) / 2.0


def _why_restart(now: History) -> str:
    if now.without_progress == 1:
        return "a step was committed since the last failure" if now.failures > 1 else "first failure"
    return f"failure {now.without_progress} in a row without a newly committed step"
