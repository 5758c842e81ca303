"""How much work stood behind which step: what tells, at a failure, how much of it has to be done again. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

_MOST_MARKS: Final = 4096


@dataclass(frozen=True, slots=True)
class Mark:
    """When `step` was done the launcher had spent so much on work, and so much of that on evaluation (nanoseconds)."""

    step: int
    productive_ns: int
    evaluation_ns: int


class Course:
    """Marks from the step that this life went on from to the newest one; both grow from mark to mark.

    Bounded: of the older half every other mark is given up when there are too many.
    """

    def __init__(self) -> None:
        self._marks: list[Mark] = []

    @property
    def last(self) -> Mark | None:
        return self._marks[-1] if self._marks else None

    def add(self, mark: Mark) -> None:
        self._marks.append(mark)
        if len(self._marks) > _MOST_MARKS:
            half = _MOST_MARKS // 2
            self._marks = self._marks[:half:2] + self._marks[half:]

    def back_to(self, step: int) -> Mark:
        """What stood behind `step`, between two marks in proportion. What comes after it is forgotten: it is undone."""
        reached = interpolate(self._marks, step)
        del self._marks[bisect_left(self._marks, step, key=lambda mark: mark.step) :]
        self._marks.append(reached)
        return reached


def interpolate(marks: list[Mark], step: int) -> Mark:
    """`marks` grow and there is one at least. A step before the first or after the last has what that one has."""
    after = bisect_right(marks, step, key=lambda mark: mark.step)
    if after == 0:
        return Mark(step, marks[0].productive_ns, marks[0].evaluation_ns)
    low = marks[after - 1]
    if after == len(marks):
        return Mark(step, low.productive_ns, low.evaluation_ns)
    high = marks[after]
    done, span = step - low.step, high.step - low.step
    return Mark(
        step,
        low.productive_ns + (high.productive_ns - low.productive_ns) * done // span,
        low.evaluation_ns + (high.evaluation_ns - low.evaluation_ns) * done // span,
    )
