"""The lives of launchers, read back from the lines of their journals. Pure; what it does not know it passes over."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .books import Heading
from .course import Mark, interpolate

Line = dict[str, Any]


def parse(document: bytes) -> list[Line]:
    """The lines that are whole and are events: a kill or a full disk may have cut the last one, or worse."""
    found = []
    for text in document.split(b"\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("event"), str) and _is_number(line.get("at")):
            found.append(line)
    return found


@dataclass(frozen=True, slots=True)
class Sample:
    """What was booked when the wall clock was `at`."""

    at: float
    facts: Mapping[str, Any]

    @property
    def wall_s(self) -> float:
        return float(self.facts["wall_s"])

    @property
    def seconds(self) -> dict[str, float]:
        return {heading: float(self.facts["seconds"].get(heading, 0.0)) for heading in Heading}

    @property
    def step(self) -> int:
        return int(self.facts["step"])


@dataclass(slots=True, eq=False)
class Life:
    """One launcher's, on one host. `joins` say where it stood after each meeting with the others. `shows_now`: how
    it was doing was stored every few seconds, besides its lines.
    """

    incarnation: str
    host: str = ""
    launched_at: float = 0.0
    last_at: float = 0.0
    exit_code: int | None = None
    joins: list[Line] = field(default_factory=list)
    shows_now: bool = False
    events: list[Line] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def began_at(self) -> float:
        """Before it could write its first line: the interpreter had to start."""
        return self.samples[-1].at - self.samples[-1].wall_s if self.samples else self.launched_at

    @property
    def place(self) -> Line | None:
        """Where it stood last."""
        return self.joins[-1] if self.joins else None

    @property
    def leader(self) -> str:
        """The incarnation of the launcher with group rank 0."""
        return str(self.place.get("leader") or self.place["incarnation"]) if self.place else self.incarnation

    @property
    def leads(self) -> list[tuple[float, float]]:
        """From when to when it had group rank 0."""
        ends = [line["at"] for line in self.joins[1:]] + [self.last_at]
        return [(line["at"], end) for line, end in zip(self.joins, ends, strict=True) if line.get("group_rank") == 0]

    @property
    def newest(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    @property
    def resumed_step(self) -> int | None:
        """The earliest step that it went on from."""
        return None if self.newest is None else self.newest.facts.get("resumed_step")

    def booked_until(self, at: float) -> dict[str, float]:
        """What was booked at this time, between two samples in proportion."""
        before = Sample(self.began_at, {"wall_s": 0.0, "seconds": {}, "step": -1})
        for after in self.samples:
            if after.at >= at:
                part = (at - before.at) / (after.at - before.at) if after.at > before.at else 1.0
                part = min(1.0, max(0.0, part))
                low, high = before.seconds, after.seconds
                return {heading: low[heading] + (high[heading] - low[heading]) * part for heading in Heading}
            before = after
        return before.seconds

    def productive_beyond(self, step: int) -> tuple[float, int]:
        """Seconds of work on the steps after this one, and how many they are: lost, when a later life redoes them."""
        first, newest = self.resumed_step, self.newest
        if first is None or newest is None or newest.step <= step:
            return 0.0, 0
        marks = [Mark(first, 0, 0)]
        for sample in self.samples:
            if sample.step < first:
                continue  # It had not begun.
            mark = Mark(sample.step, round(sample.seconds[Heading.PRODUCTIVE] * 1e9), 0)
            while marks and marks[-1].step >= mark.step:  # It had fallen back.
                marks.pop()
            marks.append(mark)
        whole_ns = marks[-1].productive_ns
        return (whole_ns - interpolate(marks, step).productive_ns) / 1e9, newest.step - max(step, first)


def lives(documents: Iterable[tuple[str, Iterable[Line]]]) -> list[Life]:
    """From lines, by the incarnation that wrote them; in the order in which the lives began."""
    found: dict[str, Life] = {}
    for incarnation, lines in documents:
        life = found.setdefault(incarnation, Life(incarnation))
        for line in lines:
            _enter(life, line)
    for life in found.values():
        life.samples.sort(key=lambda sample: sample.at)
    return sorted(found.values(), key=lambda life: life.began_at)


def _enter(life: Life, line: Line) -> None:
    life.last_at = max(life.last_at, line["at"])
    life.launched_at = min(life.launched_at or line["at"], line["at"])
    life.host = life.host or str(line.get("host", ""))
    match line["event"]:
        case "now" | "progress" | "booked":
            life.shows_now |= line["event"] == "now"
            if _is_booked(line):
                life.samples.append(Sample(line["at"], line))
        case "joined":
            life.joins.append(line)
        case "ended" if isinstance(line.get("exit_code"), int):
            life.exit_code = line["exit_code"]
            life.events.append(line)
        case _:
            life.events.append(line)


def _is_booked(line: Line) -> bool:
    seconds = line.get("seconds")
    return (
        _is_number(line.get("wall_s"))
        and isinstance(line.get("step"), int)
        and isinstance(seconds, dict)
        and all(map(_is_number, seconds.values()))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
