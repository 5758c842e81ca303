"""What the launcher says on the terminal; one place decides how it looks. Text in, text out, and `say`."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from .judging.failures import Failure, FailureClass
from .judging.policy import Restart, Stop

_ANSWERS: Final = frozenset({FailureClass.BAD_CONFIG, FailureClass.GAVE_UP})
"""What a worker says in these cases is written for the user: which rank said it first, and where, does not matter."""
_MOST_LINES: Final = 120
_FIRST_LINES: Final = 30
"""Of a traceback: where it starts, and, more telling, where it ends."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and when it happened. `at` is local time; `logs` are that rank's files and `journal` is where it is kept,
    as far as there are any.
    """

    host: str
    attempt: int
    at: datetime
    logs: tuple[str, ...] = ()
    journal: str = ""


def say(text: str) -> None:
    sys.stderr.write(f"relight: {text}\n")
    sys.stderr.flush()


def restarting(failure: Failure, decision: Restart, scene: Scene) -> str:
    """One line: `03:15:42 rank 1 on node7 was killed by SIGKILL at step 37; restarting (attempt 2)`."""
    delay = f" in {decision.delay_s:.3g} s" if decision.delay_s else ""
    why = f": {decision.reason}" if decision.delay_s else ""
    return f"{scene.at:%H:%M:%S} {_happened(failure, scene)}; restarting{delay} (attempt {scene.attempt + 1}){why}"


def stopping(failure: Failure, decision: Stop, scene: Scene) -> str:
    """The block at a final stop: cause, place, time, traceback once, what was decided and why."""
    headline = f"stopped with exit code {decision.exit_code.value}: {decision.reason}"
    if failure.kind in _ANSWERS and failure.message:
        return f"{failure.message}\n({headline})"
    if failure.kind is FailureClass.PREEMPTED:
        return headline
    lines = [headline, *(f"  {label:8} {text}" for label, text in _facts(failure, scene))]
    if failure.details:
        lines += ["", *_bounded(failure.details.rstrip("\n").split("\n"))]
    return "\n".join(lines)


def asked_to_stop(number: signal.Signals, deadline_s: float) -> str:
    line = f"{number.name}: the workers have {deadline_s:g} s to save and end"
    return f"{line}; press Ctrl-C again to end them at once" if number is signal.SIGINT else line


def _facts(failure: Failure, scene: Scene) -> list[tuple[str, str]]:
    step = _at_step(failure) or "no step known"
    facts = [
        ("cause", f"{failure.what} ({failure.kind.value})"),
        ("where", f"rank {failure.rank} on {scene.host}, {step}, attempt {scene.attempt}"),
        ("when", f"{scene.at:%Y-%m-%d %H:%M:%S}"),
    ]
    if failure.folded:
        ranks = "one other rank" if failure.folded == 1 else f"{failure.folded} other ranks"
        facts.append(("beside", f"{ranks} failed, too; it is not the cause"))
        facts += [("", f"  {line}") for line in failure.beside]
        if failure.folded > len(failure.beside) > 0:
            facts.append(("", f"  and {failure.folded - len(failure.beside)} more"))
    facts += [("log", path) for path in scene.logs]
    if scene.journal:
        facts.append(("journal", scene.journal))
    return facts


def _bounded(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_LINES:
        return lines
    left_out = len(lines) - _MOST_LINES
    return [*lines[:_FIRST_LINES], f"  ... {left_out} lines left out ...", *lines[left_out + _FIRST_LINES :]]


def _happened(failure: Failure, scene: Scene) -> str:
    who = f"rank {failure.rank} on {scene.host}"
    step = f" {_at_step(failure)}" if failure.step >= 0 else ""
    if failure.signal_name:
        return f"{who} was {failure.what}{step}"
    return f"{who} failed{step}: {failure.what}"


def _at_step(failure: Failure) -> str:
    return f"at step {failure.step}" if failure.step >= 0 else ""
