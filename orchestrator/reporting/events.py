"""What went wrong or was interrupted, and how the launchers lived: from their journals. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...configs.protocol import ExitCode
from ..accounting.books import Heading
from ..accounting.ledger import LAUNCHER_LOST
from ..accounting.lives import Life, Line
from .numbers import whole
from .story import Failure, Kind, Mark, Row

_ENDINGS = {
    ExitCode.FINISHED: "finished",
    ExitCode.PREEMPTED: "preempted",
    ExitCode.GAVE_UP: "gave up",
    ExitCode.BAD_CONFIG: "refused its configuration",
    ExitCode.INTERRUPTED: "interrupted",
}
_NO_FAULT = "PREEMPTED"


def failures(lives: Sequence[Life]) -> list[Failure]:
    """In the order of time; a launcher that was lost is one too."""
    found = [
        _failure(life, line, life.events[number:])
        for life in lives
        for number, line in enumerate(life.events)
        if line["event"] == "failed" and line.get("kind") != _NO_FAULT
    ]
    found += [
        Failure(life.last_at, LAUNCHER_LOST, "the launcher ended without a word", life.host, step=_last_step(life))
        for life in _lost(lives)
    ]
    return sorted(found, key=lambda failure: failure.at)


def _failure(life: Life, line: Line, after: Sequence[Line]) -> Failure:
    decided = next((each for each in after if each["event"] == "decided"), {})
    beside = line.get("beside")
    step = whole(line.get("step"))
    return Failure(
        at=float(line["at"]),
        kind=str(line.get("kind", "")),
        what=str(line.get("what", "")),
        host=life.host,
        rank=whole(line.get("rank")),
        step=step if step is not None and step >= 0 else None,
        attempt=whole(line.get("attempt")),
        details=str(line.get("details") or line.get("message") or ""),
        beside=tuple(map(str, beside)) if isinstance(beside, list) else (),
        decision=f"{decided.get('decision', '')}: {decided.get('reason', '')}".strip(": "),
    )


def marks(lives: Sequence[Life]) -> list[Mark]:
    """What a chart shows beside the values."""
    found = [
        Mark(Kind.FAILURE, failure.at, failure.step, f"{failure.kind}: {failure.what}") for failure in failures(lives)
    ]
    for life in lives:
        found += _interruptions(life)
    return sorted(found, key=lambda mark: mark.at)


def _interruptions(life: Life) -> Iterator[Mark]:
    told = False
    for number, line in enumerate(life.events):
        at, step = float(line["at"]), _step_at(life.events[: number + 1])
        if line["event"] == "stopped" or (line["event"] == "failed" and line.get("kind") == _NO_FAULT):
            told = True
            yield Mark(Kind.PREEMPTION, at, step, f"preempted on {life.host}: {line.get('signal') or line.get('what')}")
        elif line["event"] == "regrouped":
            yield Mark(Kind.REGROUPING, at, step, f"started again together: {line.get('reason', 'another host')}")
    if life.exit_code == ExitCode.PREEMPTED and not told:
        yield Mark(Kind.PREEMPTION, life.last_at, _step_at(life.events), f"preempted on {life.host}")


def _step_at(lines: Sequence[Line]) -> int | None:
    """Of the newest attempt that has ended, the last step that any rank had done."""
    for line in reversed(lines):
        if line["event"] == "exited" and (step := whole(line.get("step"))) is not None and step >= 0:
            return step
    return None


def rows(lives: Sequence[Life]) -> list[Row]:
    """One for each life."""
    lost = {life.incarnation for life in _lost(lives)}
    return [_row(life, lost=life.incarnation in lost) for life in lives]


def _row(life: Life, *, lost: bool) -> Row:
    newest = life.newest
    wall_s = newest.wall_s if newest is not None else 0.0
    return Row(
        incarnation=life.incarnation,
        host=life.host,
        began_at=life.began_at,
        ended_at=life.last_at,
        how="ended without a word" if lost else _how(life.exit_code),
        attempts=max((whole(line.get("attempt")) or 0 for line in life.joins), default=0),
        failures=sum(line["event"] == "failed" and line.get("kind") != _NO_FAULT for line in life.events),
        from_step=life.resumed_step,
        to_step=_last_step(life),
        goodput=newest.seconds[Heading.PRODUCTIVE] / wall_s if newest is not None and wall_s else None,
    )


def _how(code: int | None) -> str:
    if code is None:
        return "no word of its end yet"
    return _ENDINGS.get(ExitCode(code), "failed") if code in set(ExitCode) else "failed"


def _last_step(life: Life) -> int | None:
    return life.newest.step if life.newest is not None and life.newest.step >= 0 else None


def _lost(lives: Sequence[Life]) -> list[Life]:
    """Another one began later on, and this one never said how it ended."""
    return [
        life
        for life in lives
        if life.exit_code is None and any(other.began_at > life.last_at for other in lives if other is not life)
    ]
