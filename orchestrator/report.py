"""What the launcher says on the terminal; one place decides how it looks. Text in, text out, and `say`."""

from __future__ import annotations

import signal
import sys

from .judging.failures import Failure, FailureClass
from .judging.policy import Restart, Stop

_ANSWERS = frozenset({FailureClass.BAD_CONFIG, FailureClass.GAVE_UP})
"""What a worker says in these cases is written for the user: which rank said it first, and where, does not matter."""


def say(text: str) -> None:
    sys.stderr.write(f"relight: {text}\n")
    sys.stderr.flush()


def restarting(failure: Failure, decision: Restart, attempt: int) -> str:
    """One line: `rank 1 was killed by SIGKILL at step 37; restarting (attempt 2)`."""
    delay = f" in {decision.delay_s:g} s" if decision.delay_s else ""
    return f"{_happened(failure)}; restarting{delay} (attempt {attempt})"


def stopping(failure: Failure, decision: Stop, host: str, attempt: int) -> str:
    """The block at a final stop: cause, place, traceback once, what was decided and why."""
    if failure.kind in _ANSWERS and failure.message:
        return f"{failure.message}\n(stopped with exit code {decision.exit_code.value}: {decision.reason})"
    headline = f"stopped with exit code {decision.exit_code.value}: {decision.reason}"
    if failure.kind is FailureClass.PREEMPTED:
        return headline
    lines = [
        headline,
        f"  cause    {failure.what} ({failure.kind.value})",
        f"  where    rank {failure.rank} on {host}, {_at_step(failure) or 'no step known'}, attempt {attempt}",
    ]
    if failure.folded:
        ranks = "one other rank" if failure.folded == 1 else f"{failure.folded} other ranks"
        lines.append(f"  beside   {ranks} failed after it, which is not shown")
    if failure.details:
        lines += ["", failure.details.rstrip("\n")]
    return "\n".join(lines)


def asked_to_stop(number: signal.Signals, deadline_s: float) -> str:
    line = f"{number.name}: the workers have {deadline_s:g} s to save and end"
    return f"{line}; press Ctrl-C again to end them at once" if number is signal.SIGINT else line


def _happened(failure: Failure) -> str:
    step = f" {_at_step(failure)}" if failure.step >= 0 else ""
    if failure.signal_name:
        return f"rank {failure.rank} was {failure.what}{step}"
    return f"rank {failure.rank} failed{step}: {failure.what}"


def _at_step(failure: Failure) -> str:
    return f"at step {failure.step}" if failure.step >= 0 else ""
