"""Which checkpoints may go. Pure: the caller knows the storage, this knows the rules.

A checkpoint stays when any rule keeps it. The rules look at what is there and never at a clock, so that what one save
keeps the next one keeps too, and a run that stood still for a week loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Self

from .layout import AttemptId
from .manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The `count` checkpoints with the highest (`max`) or lowest (`min`) value of a metric.

    `loss` is the training loss where the evaluation has no metric of that name. Raises ValueError for a `mode` or a
    `count` that cannot be.
    """

    metric: str
    mode: Literal["min", "max"] = "max"
    count: int = 1

    def __post_init__(self) -> None:
        if self.mode not in {"min", "max"}:
            message = f"the best by {self.metric} is its min or its max, not its {self.mode}"
            raise ValueError(message)
        _at_least_one("count", self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a run wants kept besides what it resumed from. Plain values: they cross a process boundary as JSON.

    `keep_last`: so many of the newest. `every_steps`: the first checkpoint at or past each multiple. `every_s`: one
    for each such stretch of seconds, the first one included. `pinned`: these steps, for good.
    Raises ValueError for a number that cannot be.
    """

    keep_last: int = 3
    every_steps: int | None = None
    every_s: float | None = None
    best: Best | None = None
    pinned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _at_least_one("keep_last", self.keep_last)
        if self.every_steps is not None:
            _at_least_one("every_steps", self.every_steps)
        if self.every_s is not None and not self.every_s > 0:
            message = f"every_s must be more than 0, not {self.every_s}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A valid checkpoint as the rules see it. `saved_at_s` (Unix time) is None where the manifest's cannot be read."""

    id: AttemptId
    saved_at_s: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        progress = manifest.progress
        loss = {} if progress.loss is None else {"loss": progress.loss}
        metrics = {name: float(value) for name, value in (loss | progress.metrics).items()}
        return cls(manifest.id, _unix_time(manifest.saved_at), metrics)


def doomed(candidates: Collection[Candidate], rules: Rules, *, protected: Collection[AttemptId]) -> list[AttemptId]:
    """The checkpoints to delete, oldest first.

    `candidates` must be valid ones, so that nothing goes before `keep_last` newer ones can be resumed from.
    `protected` always stay: what a live generation resumed from.
    """
    oldest_first = sorted(candidates, key=lambda candidate: candidate.id)
    kept = {candidate.id for candidate in oldest_first[-rules.keep_last :]}
    kept.update(protected, _kept(oldest_first, rules))
    return [candidate.id for candidate in oldest_first if candidate.id not in kept]


def _kept(oldest_first: Sequence[Candidate], rules: Rules) -> Iterator[AttemptId]:
    yield from (candidate.id for candidate in oldest_first if candidate.id.step in rules.pinned)
    if rules.every_steps is not None:
        yield from _by_steps(oldest_first, rules.every_steps)
    if rules.every_s is not None:
        yield from _by_time(oldest_first, rules.every_s)
    if rules.best is not None:
        yield from _by_metric(oldest_first, rules.best)


def _by_steps(oldest_first: Sequence[Candidate], every: int) -> Iterator[AttemptId]:
    reached = 0
    for candidate in oldest_first:
        if candidate.id.step // every > reached:
            reached = candidate.id.step // every
            yield candidate.id


def _by_time(oldest_first: Sequence[Candidate], every_s: float) -> Iterator[AttemptId]:
    """A clock that was set back only keeps more; a time that cannot be read keeps its checkpoint."""
    last = -math.inf
    for candidate in oldest_first:
        if candidate.saved_at_s is None:
            yield candidate.id
        elif abs(candidate.saved_at_s - last) >= every_s:
            last = candidate.saved_at_s
            yield candidate.id


def _by_metric(oldest_first: Sequence[Candidate], best: Best) -> Iterator[AttemptId]:
    """Of checkpoints with the same value the first: the later ones were saved before the next evaluation."""
    first_with: dict[float, AttemptId] = {}
    for candidate in oldest_first:
        value = candidate.metrics.get(best.metric, math.nan)
        if not math.isnan(value):
            first_with.setdefault(value, candidate.id)
    ranked = sorted(first_with, reverse=best.mode == "max")
    yield from (first_with[value] for value in ranked[: best.count])


def _unix_time(text: str) -> float | None:
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        message = f"{name} must be at least 1, not {value}"
        raise ValueError(message)
