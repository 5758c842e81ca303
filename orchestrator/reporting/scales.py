"""Axes: from values to places between 0 and 1, and where the ticks are. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

_TIME_STEPS: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
)  # fmt: skip
_DAY: Final = 86400
_UNITS: Final = (("G", 1e9), ("M", 1e6), ("k", 1e3))
_FIRST_UNIT: Final = 1e4
_MOST_TICKS: Final = 7


@dataclass(frozen=True, slots=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`; `place` is 0 at `low` and 1 at `high`, by logarithm where `log`."""

    low: float
    high: float
    ticks: tuple[Tick, ...] = ()
    log: bool = False

    def place(self, value: float) -> float:
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)


def linear(low: float, high: float, *, whole: bool = False, margin: float = 0.0) -> Axis:
    """A little wider than the values by `margin`, and never without a width. `whole`: ticks at whole numbers."""
    low, high = _apart(low, high)
    room = (high - low) * margin
    low, high = low - room, high + room
    step = _nice((high - low) / (_MOST_TICKS - 1))
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    values = [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
    return _with_ticks(Axis(low, high), values, lambda value: _short(value, step, max(-low, high)))


def logarithmic(low: float, high: float) -> Axis:
    """Both greater than 0."""
    low, high = (low / 2, high * 2) if low == high else (low / 1.15, high * 1.15)
    decades = math.log10(high) - math.log10(low)
    steps = (1, 2, 5) if decades <= 2.5 else (1,)
    stride = max(1, math.ceil(decades / _MOST_TICKS))
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, stride)
    values = [step * 10.0**exponent for exponent in exponents for step in steps]
    return _with_ticks(Axis(low, high, log=True), values, lambda value: f"{value:.3g}")


def clock(low: float, high: float, zone: tzinfo = UTC) -> Axis:
    """Seconds since 1970, as clocks in `zone` show them; days where there are several."""
    low, high = (low, high) if high - low >= 1.0 else (low, low + 1.0)
    step = next((step for step in _TIME_STEPS if (high - low) / step <= _MOST_TICKS), _TIME_STEPS[-1])
    while (high - low) / step > _MOST_TICKS:
        step *= 2
    offset = datetime.fromtimestamp(low, zone).utcoffset()
    shift = offset.total_seconds() if offset is not None else 0.0
    first = math.ceil((low + shift) / step)
    values = [number * step - shift for number in range(first, math.floor((high + shift) / step) + 1)]
    form = "%d %b" if step >= _DAY else "%H:%M:%S" if step < 60 else "%d %b %H:%M" if high - low > _DAY else "%H:%M"
    return _with_ticks(Axis(low, high), values, lambda value: f"{datetime.fromtimestamp(value, zone):{form}}")


def _with_ticks(axis: Axis, values: Sequence[float], label: Callable[[float], str]) -> Axis:
    ticks = (Tick(axis.place(value), label(value)) for value in values if axis.low <= value <= axis.high)
    return Axis(axis.low, axis.high, tuple(ticks), axis.log)


def _apart(low: float, high: float) -> tuple[float, float]:
    room = abs(low) * 0.1 or 1.0
    return (low, high) if high - low > abs(high) * 1e-9 else (low - room, high + room)


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, ..."""
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * factor for factor in (1, 2, 5, 10) if size * factor >= step * (1 - 1e-9))


def _short(value: float, step: float, largest: float) -> str:
    """With as many places as tell two ticks apart, in the unit of the largest: 0.25, 1500, 20k, 0.5M, 1e-05."""
    if abs(value) < step / 2:
        return "0"
    if largest < 1e-3 or largest >= 1e12:
        return f"{value:.3g}"
    unit, size = next((each for each in _UNITS if largest >= each[1]), ("", 1.0))
    return f"{value / size:.{_places(step / size)}f}{unit}" if largest >= _FIRST_UNIT else f"{value:.{_places(step)}f}"


def _places(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))
