"""As much of a series as can be seen on a page, and the axis that all series share. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import Final

from . import scales
from .story import Mark, Point, Save, Series
from .thinning import spread, thin

_BUCKETS: Final = 300
"""So many parts of the width have their lowest and highest point drawn."""
_MOST_ABANDONED: Final = 200
_MOST_LOST: Final = 20


class Over(StrEnum):
    STEPS = "steps"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Frame:
    """What all charts over the same axis have in common."""

    over: Over
    x: scales.Axis
    zone: tzinfo
    marks: tuple[Mark, ...]
    saves: tuple[Save, ...]

    def place(self, point: Point | Save) -> float:
        return self.x.place(_value(point, self.over))


def frame(over: Over, outlines: Sequence[Outline], marks: Sequence[Mark], saves: Sequence[Save], zone: tzinfo) -> Frame:
    """Around everything that is drawn; there is a point at least."""
    points = [point for outline in outlines for point in outline.points]
    if over is Over.STEPS:
        placed = [mark for mark in marks if mark.step is not None]
        steps = [0, *(point.step for point in points), *(mark.step or 0 for mark in placed)]
        x = scales.linear(min(steps), max(steps), whole=True)
    else:
        placed = list(marks)
        times = [*(point.at for point in points), *(mark.at for mark in marks), *(save.at for save in saves)]
        x = scales.clock(min(times), max(times), zone)
    inside = tuple(save for save in saves if x.low <= _value(save, over) <= x.high)
    return Frame(over, x, zone, tuple(placed), inside)


def _value(point: Point | Save, over: Over) -> float:
    return point.step if over is Over.STEPS else point.at


@dataclass(frozen=True, slots=True)
class Outline:
    """As much of a series as can be seen over one axis. `lost`: values that are infinite, or no numbers."""

    series: Series
    standing: tuple[tuple[Point, ...], ...]
    abandoned: tuple[tuple[Point, ...], ...]
    lost: tuple[Point, ...]

    @property
    def points(self) -> list[Point]:
        return [*self.finite, *self.lost]

    @property
    def finite(self) -> list[Point]:
        return [point for line in (*self.standing, *self.abandoned) for point in line]

    @property
    def can_be_log(self) -> bool:
        """Worth a logarithmic scale."""
        values = [point.value for point in self.finite]
        return bool(values) and min(values) > 0 and max(values) >= 3 * min(values)


def outline(series: Series, over: Over) -> Outline:
    """Over steps what stands is one line; over time there is none where nothing was done."""
    stretches = [
        (stretch.abandoned, [point for point in stretch.points if math.isfinite(point.value)])
        for stretch in series.stretches
    ]
    standing = [points for abandoned, points in stretches if points and not abandoned]
    undone = [points for abandoned, points in stretches if points and abandoned]
    if over is Over.STEPS and standing:
        standing = [sorted((point for points in standing for point in points), key=lambda point: point.step)]
    values = [_value(point, over) for points in (*standing, *undone) for point in (points[0], points[-1])]
    width = max(values, default=0.0) - min(values, default=0.0)
    lost = [point for stretch in series.stretches for point in stretch.points if not math.isfinite(point.value)]
    longest = sorted(undone, key=len)[-_MOST_ABANDONED:]
    return Outline(
        series,
        tuple(_thinned(points, over, width) for points in standing),
        tuple(_thinned(points, over, width) for points in longest),
        tuple(spread(lost, lambda point: _value(point, over), lambda _: 0, _MOST_LOST)),
    )


def _thinned(points: list[Point], over: Over, width: float) -> tuple[Point, ...]:
    share = (_value(points[-1], over) - _value(points[0], over)) / width if width else 1.0
    buckets = math.ceil(_BUCKETS * share) + 1
    return tuple(thin(points, lambda point: _value(point, over), lambda point: point.value, buckets))
