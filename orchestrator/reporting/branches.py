"""Which of what was measured stands, and which was done again after a restart. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from .story import Point, Stretch


@dataclass(frozen=True, slots=True)
class Branch:
    """What one start of the workers measured; it went on from `resumed_step`."""

    resumed_step: float
    points: tuple[Point, ...]


def stretches(branches: Sequence[Branch]) -> tuple[Stretch, ...]:
    """Of the branches, one after another in time. A step stands up to the earliest one that a later branch began with.

    What is abandoned begins with the last point that stands, so that the lines meet.
    """
    found: list[Stretch] = []
    stands_until = inf
    for branch in reversed(branches):
        standing = [point for point in branch.points if point.step <= stands_until]
        undone = [point for point in branch.points if point.step > stands_until]
        if undone:
            found.append(Stretch((*standing[-1:], *undone), abandoned=True))
        if standing:
            found.append(Stretch(tuple(standing)))
        stands_until = min(stands_until, branch.resumed_step)
    return tuple(reversed(found))
