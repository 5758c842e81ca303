"""What saves cost: how long the training stood still for each, and how long it took until it was durable. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Final

from ..commands.status_view import duration
from . import scales
from .chart import grid, moment
from .markup import Markup, element, joined, percent
from .story import Save
from .thinning import spread

_MOST: Final = 150
_SIGNS: Final = {"persist": "●", "stall": "▲"}
_LEAST_S: Final = 1e-4
"""A logarithmic scale has no zero."""


def saves(told: Sequence[Save], zone: tzinfo) -> Markup:
    if not told:
        return element("p", "Nothing was saved yet.", class_="none")
    good = [save for save in told if not save.failed]
    stalls = [save.stall_s for save in good if save.stall_s is not None]
    persists = [save.persist_s for save in good if save.persist_s is not None]
    failed = [save for save in told if save.failed]
    return joined(
        element(
            "p",
            f"{len(good)} known saves, {len(failed)} failed. {_typical('The training stood still for', stalls)} "
            f"{_typical('A save was durable after', persists)}",
        ),
        _chart(told, zone) if stalls or persists else None,
        *_failed(failed, zone),
    )


def _typical(what: str, seconds: Sequence[float]) -> str:
    if not seconds:
        return f"{what} a time that nobody has told."
    return f"{what} {_brief(statistics.median(seconds))} in the median, {_brief(max(seconds))} at most."


def _brief(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else duration(seconds)


def _chart(told: Sequence[Save], zone: tzinfo) -> Markup:
    timed = [save for save in told if save.stall_s is not None or save.persist_s is not None]
    values = [max(each, _LEAST_S) for save in timed for each in (save.stall_s, save.persist_s) if each is not None]
    x, y = (
        scales.clock(min(save.at for save in timed), max(save.at for save in timed), zone),
        scales.logarithmic(min(values), max(values)),
    )
    dots = [*_dots(timed, "persist", _persist, (x, y), zone), *_dots(timed, "stall", _stall, (x, y), zone)]
    return joined(
        element(
            "figure",
            element("figcaption", "stall and persist time of saves, by the wall clock", class_="unseen"),
            grid(x, y, lambda label: _brief(float(label))),
            element("div", *dots, class_="plot"),
            class_="chart low",
            data_points=str(len(dots)),
        ),
        element(
            "p",
            element("span", element("i", "▲", class_="key dot stall"), "training stood still"),
            element("span", element("i", "●", class_="key dot persist"), "until it was durable"),
            class_="legend",
        ),
    )


def _dots(
    timed: Sequence[Save],
    name: str,
    time_of: Callable[[Save], float],
    axes: tuple[scales.Axis, scales.Axis],
    zone: tzinfo,
) -> list[Markup]:
    """One for each save of which this time is known; of many at one place the longest."""
    x, y = axes
    known = [save for save in timed if time_of(save) >= 0]
    return [
        element(
            "i",
            "✕" if save.failed else _SIGNS[name],
            class_=f"dot {name}{' failed' if save.failed else ''}",
            style=f"left:{percent(x.place(save.at))};bottom:{percent(y.place(max(time_of(save), _LEAST_S)))}",
            title=f"{moment(save.at, save.step, zone)}: {name} {_brief(time_of(save))}",
        )
        for save in spread(known, lambda save: save.at, time_of, _MOST)
    ]


def _stall(save: Save) -> float:
    return -1.0 if save.stall_s is None else save.stall_s


def _persist(save: Save) -> float:
    return -1.0 if save.persist_s is None else save.persist_s


def _failed(failed: Sequence[Save], zone: tzinfo) -> list[Markup]:
    if not failed:
        return []
    lines = [element("li", f"{moment(save.at, save.step, zone)}: {save.failed}") for save in failed[-20:]]
    return [element("h3", "Failed saves"), element("ul", *lines, class_="lines")]
