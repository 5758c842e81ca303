"""A run's course, as the page shows it. Times are seconds of the wall clock since 1970."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """A value after a step. It may be infinite, or no number."""

    at: float
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Points of one start of the workers, in order. `abandoned`: what they show was done again later."""

    points: tuple[Point, ...]
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """`what` says whose values these are."""

    name: str
    what: str
    stretches: tuple[Stretch, ...]


class Kind(StrEnum):
    """What is marked on the charts."""

    FAILURE = "failure"
    """Workers or their launcher failed; they were started again, or not."""
    PREEMPTION = "preemption"
    REGROUPING = "regrouping"
    """Another host came, left or failed."""


@dataclass(frozen=True, slots=True)
class Mark:
    """`step` is the last one that was done before it, if that is known."""

    kind: Kind
    at: float
    step: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Save:
    """A checkpoint that was saved, or could not be. Seconds where they are known."""

    at: float
    step: int
    stall_s: float | None = None
    persist_s: float | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The first cause. `beside`: secondary errors, a line each."""

    at: float
    kind: str
    what: str
    host: str
    rank: int | None = None
    step: int | None = None
    attempt: int | None = None
    details: str = ""
    beside: tuple[str, ...] = ()
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One launcher's life."""

    incarnation: str
    host: str
    began_at: float
    ended_at: float
    how: str
    attempts: int
    failures: int
    from_step: int | None = None
    to_step: int | None = None
    goodput: float | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """`facts` are what `relight status` says; empty where no launcher has written a journal."""

    url: str
    told_at: float
    series: tuple[Series, ...] = ()
    marks: tuple[Mark, ...] = ()
    saves: tuple[Save, ...] = ()
    failures: tuple[Failure, ...] = ()
    lives: tuple[Row, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
