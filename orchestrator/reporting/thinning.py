"""Many points made few, so that the line looks the same: of each part of the width the lowest and the highest. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def thin(points: Sequence[T], x: Callable[[T], float], y: Callable[[T], float], buckets: int) -> list[T]:
    """Of `points`, which are in order by `x`: the first, the last, and the lowest and the highest of each bucket."""
    if len(points) <= 2 * buckets + 2:
        return list(points)
    low, high = x(points[0]), x(points[-1])
    width = (high - low) / buckets or 1.0
    chosen = {0, len(points) - 1}
    begin = 0
    while begin < len(points):
        bucket = int((x(points[begin]) - low) / width)
        end = begin + 1
        while end < len(points) and int((x(points[end]) - low) / width) == bucket:
            end += 1
        chosen.add(min(range(begin, end), key=lambda number: y(points[number])))
        chosen.add(max(range(begin, end), key=lambda number: y(points[number])))
        begin = end
    return [points[number] for number in sorted(chosen)]


def spread(points: Sequence[T], x: Callable[[T], float], weight: Callable[[T], float], slots: int) -> list[T]:
    """The weightiest of each of so many parts of the width."""
    if len(points) <= slots:
        return list(points)
    low, high = min(map(x, points)), max(map(x, points))
    width = (high - low) / slots or 1.0
    chosen: dict[int, T] = {}
    for point in points:
        slot = min(int((x(point) - low) / width), slots - 1)
        if slot not in chosen or weight(point) > weight(chosen[slot]):
            chosen[slot] = point
    return sorted(chosen.values(), key=x)
