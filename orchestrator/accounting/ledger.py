"""A whole run's accounts: the lives of its launchers, one after another, and the time between them. Pure."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from .books import HOST_LOST, Heading
from .lives import Life

AWAY = "away"
"""The heading of the time in which no launcher lived."""
LAUNCHER_LOST = "LAUNCHER_LOST"
"""The class of a life that ended without a word and was followed by another."""
_NO_FAILURE = frozenset({"PREEMPTED", "BAD_CONFIG"})


@dataclass(slots=True)
class Account:
    """Seconds by heading, which add up to `wall_s`, and what went wrong."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys([*Heading, AWAY], 0.0))
    evaluation_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    lost_by_cause_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    came_back_s: list[float] = field(default_factory=list)
    restarts: int = 0
    steps_redone: int = 0

    @property
    def wall_s(self) -> float:
        return sum(self.seconds.values())

    @property
    def held_s(self) -> float:
        """Without the time in which there was no launcher."""
        return self.wall_s - self.seconds[AWAY]

    @property
    def goodput(self) -> float | None:
        """Of the time in which machines were held, the part in which work was done that stands."""
        return self.seconds[Heading.PRODUCTIVE] / self.held_s if self.held_s else None

    @property
    def ettr(self) -> float | None:
        """Effective training time ratio: the same of all time since the first launch."""
        return self.seconds[Heading.PRODUCTIVE] / self.wall_s if self.wall_s else None

    @property
    def mtbf_s(self) -> float | None:
        """Mean time between failures; preemptions and refused configurations are none."""
        count = sum(count for kind, count in self.failures.items() if kind not in _NO_FAILURE)
        return self.held_s / count if count else None

    @property
    def median_restart_s(self) -> float | None:
        return statistics.median(self.came_back_s) if self.came_back_s else None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a launcher's life in which its books are the run's, up to `until`."""

    life: Life
    led_from: float
    until: float


def chain(lives: Sequence[Life]) -> list[Span]:
    """Whose books count, one after another: those of the launcher with group rank 0.

    One that has met nobody yet counts when no such launcher lived at the time.
    """
    leading = [Span(life, since, until) for life in lives for since, until in life.leads]
    alone = [
        Span(life, life.began_at, life.last_at)
        for life in lives
        if not life.joins
        and not any(life.began_at < span.until and span.life.began_at < life.last_at for span in leading)
    ]
    return sorted(leading + alone, key=lambda span: span.led_from)


def account(lives: Sequence[Life]) -> Account:
    """Of all lives of a run."""
    whole = Account()
    spans = chain(lives)
    counted: list[Life] = []
    until = spans[0].life.began_at if spans else 0.0
    for span in spans:
        life = span.life
        if life.began_at >= until:  # Otherwise it lived with the one before, and has booked itself what it redid.
            whole.seconds[AWAY] += life.began_at - until
            _take_back(whole, counted, life.resumed_step)
        _add_time(whole, span, until)
        until = max(until, span.until)
        if life not in counted:
            _add_counts(whole, life)
            counted.append(life)
    whole.failures = _failures(lives, counted)
    whole.evaluation_s = min(whole.evaluation_s, whole.seconds[Heading.PRODUCTIVE])
    return whole


def _add_time(whole: Account, span: Span, since: float) -> None:
    """What it booked after `since`: a launcher may take the lead while the one before still lives."""
    life = span.life
    if life.newest is None:
        whole.seconds[Heading.STARTUP] += max(0.0, span.until - max(since, life.began_at))
        return
    before, after = life.booked_until(since), life.booked_until(span.until)
    for heading in Heading:
        whole.seconds[heading] += after[heading] - before[heading]
    whole.seconds[_rest_heading(life)] += max(0.0, span.until - max(life.newest.at, since))


def _add_counts(whole: Account, life: Life) -> None:
    if life.newest is None:
        return
    facts = life.newest.facts
    whole.evaluation_s += facts.get("evaluation_s") or 0.0
    whole.restarts += facts.get("restarts") or 0
    whole.steps_redone += facts.get("steps_redone") or 0
    for cause, seconds in (facts.get("lost_by_cause_s") or {}).items():
        whole.lost_by_cause_s[cause] += seconds
    whole.came_back_s += {
        sample.facts.get("attempt"): sample.facts["came_back_s"]
        for sample in life.samples
        if sample.facts.get("came_back_s") is not None
    }.values()


def _failures(lives: Sequence[Life], counted: Sequence[Life]) -> Counter[str]:
    """On any host, each once, though several may have told of it; and the launchers that were lost."""
    told = {
        (life.leader, line.get("attempt"), line.get("rank"), str(line.get("kind", HOST_LOST)))
        for life in lives
        for line in life.events
        if line["event"] in {"failed", "host lost"}
    }
    lost = sum(life.exit_code is None for life in counted[:-1])
    return Counter(kind for *_, kind in sorted(told, key=str)) + Counter({LAUNCHER_LOST: lost})


def _rest_heading(life: Life) -> Heading:
    """Between the newest sample and the last sign of life: what follows the end of an attempt, or of a life."""
    return Heading.STARTUP if life.exit_code is not None else Heading.WAITING


def _take_back(whole: Account, earlier: Sequence[Life], step: int | None) -> None:
    """What earlier lives did after the step that this one went on from has to be done again."""
    if step is None:
        return
    redone_from: int | None = None
    for life in reversed(earlier):
        seconds, steps = life.productive_beyond(step)
        if redone_from is not None:  # A life in between has redone these already.
            before = life.productive_beyond(redone_from)
            seconds, steps = seconds - before[0], steps - before[1]
        seconds = max(0.0, min(seconds, whole.seconds[Heading.PRODUCTIVE]))
        whole.seconds[Heading.PRODUCTIVE] -= seconds
        whole.seconds[Heading.LOST] += seconds
        whole.lost_by_cause_s[cause_of_end(life)] += seconds
        whole.steps_redone += max(0, steps)
        if life.resumed_step is not None:
            redone_from = min(life.resumed_step, life.resumed_step if redone_from is None else redone_from)
        if redone_from is not None and redone_from <= step:
            return


def cause_of_end(life: Life) -> str:
    """Why a life was over, as a class of failure."""
    if life.exit_code is None:
        return LAUNCHER_LOST
    kinds = [str(line.get("kind")) for line in life.events if line["event"] == "failed"]
    return "PREEMPTED" if life.exit_code == 75 or not kinds else kinds[-1]
