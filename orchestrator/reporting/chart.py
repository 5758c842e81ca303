"""One series over steps or over the wall clock. Pure.

The line is stretched to the width of the page, so it is SVG without text; ticks, marks and what is shown beside the
pointer are HTML above it, which keeps its size. Nothing of it needs a script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Final

from . import scales
from .markup import Markup, element, percent
from .outline import Frame, Outline, Over
from .story import Kind, Mark, Point, Series
from .thinning import spread

WIDTH: Final = 1000
HEIGHT: Final = 300
_MOST_SHOWN: Final = 60
"""Points that are told of where the pointer is."""
_MOST_MARKS: Final = 120
_MOST_SAVES: Final = 150
SHAPES: Final = {Kind.FAILURE: "▼", Kind.PREEMPTION: "◆", Kind.REGROUPING: "■"}


def chart(outline: Outline, frame: Frame, *, log: bool) -> Markup:
    """The figure, with the number of its points in `data-points`."""
    values = [point.value for point in outline.finite]
    if not values:
        return element("p", f"No value of {outline.series.name} is a number.", class_="none")
    low, high = min(values), max(values)
    y = scales.logarithmic(low, high) if log else scales.linear(low, high, margin=0.04)
    return element(
        "figure",
        element("figcaption", _summary(outline, frame), class_="unseen"),
        grid(frame.x, y),
        element(
            "div",
            element(
                "svg",
                _path(outline.abandoned, frame, y, "line abandoned"),
                _path(outline.standing, frame, y, "line"),
                viewBox=f"0 0 {WIDTH} {HEIGHT}",
                preserveAspectRatio="none",
                aria_hidden="true",
            ),
            *_saves(frame),
            *_marks(frame),
            *_lost_numbers(outline, frame),
            *_pointer(outline, frame, y),
            class_="plot",
        ),
        class_="chart",
        data_points=str(len(values)),
    )


def _path(lines: Sequence[Sequence[Point]], frame: Frame, y: scales.Axis, class_: str) -> Markup | None:
    spelt = [
        "M" + "L".join(f"{WIDTH * frame.place(p):.1f} {HEIGHT * (1 - y.place(p.value)):.1f}" for p in line)
        for line in lines
        if line
    ]
    # A line of no length ends in a round dot: a single point is seen, too.
    return element("path", d="".join(f"{line}h0" for line in spelt), class_=class_) if spelt else None


def grid(x: scales.Axis, y: scales.Axis, label: Callable[[str], str] = str) -> Markup:
    """Every second tick of the width is left out on a narrow page. `label`: how a tick of the height is spelt."""
    return element(
        "div",
        *(element("span", label(tick.label), class_="y", style=f"bottom:{percent(tick.place)}") for tick in y.ticks),
        *(
            element("span", tick.label, class_=f"x{' wide' if number % 2 else ''}", style=f"left:{percent(tick.place)}")
            for number, tick in enumerate(x.ticks)
        ),
        class_="grid",
        aria_hidden="true",
    )


def _marks(frame: Frame) -> list[Markup]:
    def where(mark: Mark) -> float:
        return frame.x.place(mark.at if frame.over is Over.TIME else mark.step or 0)

    shown = spread(frame.marks, where, lambda mark: mark.kind is Kind.FAILURE, _MOST_MARKS)
    return [
        element(
            "i",
            element("b", SHAPES[mark.kind]),
            class_=f"mark {mark.kind}",
            style=f"left:{percent(where(mark))}",
            title=f"{moment(mark.at, mark.step, frame.zone)}: {mark.text}",
        )
        for mark in shown
    ]


def _saves(frame: Frame) -> list[Markup]:
    shown = spread(frame.saves, frame.place, lambda save: bool(save.failed), _MOST_SAVES)
    return [
        element(
            "i",
            "✕" if save.failed else None,
            class_="save failed" if save.failed else "save",
            style=f"left:{percent(frame.place(save))}",
            title=f"{moment(save.at, save.step, frame.zone)}: {'the save failed' if save.failed else 'saved'}",
        )
        for save in shown
    ]


def _lost_numbers(outline: Outline, frame: Frame) -> list[Markup]:
    return [
        element(
            "i",
            "✕",
            class_="nonumber",
            style=f"left:{percent(frame.place(point))}",
            title=_told(outline.series, point, frame),
        )
        for point in outline.lost
    ]


def _pointer(outline: Outline, frame: Frame, y: scales.Axis) -> list[Markup]:
    """Strips of the plot, each of which shows its point where the pointer is over it, and tells of it above."""
    standing = [point for line in outline.standing for point in line]
    shown = spread(standing, frame.place, lambda _: 0, _MOST_SHOWN)
    places = [frame.place(point) for point in shown]
    edges = [0.0, *((one + other) / 2 for one, other in pairwise(places)), 1.0]
    strips = []
    for point, place, (left, right) in zip(shown, places, pairwise(edges), strict=True):
        width = max(right - left, 1e-3)
        dot = f"left:{percent((place - left) / width)};bottom:{percent(y.place(point.value))}"
        strips.append(
            element(
                "b",
                element("i", style=dot),
                element("span", _told(outline.series, point, frame), style=f"right:{percent((right - 1) / width)}"),
                class_="strip",
                style=f"left:{percent(left)};width:{percent(width)}",
                aria_hidden="true",
            )
        )
    return strips


def _told(series: Series, point: Point, frame: Frame) -> str:
    return f"{series.name} {point.value:.5g} · {moment(point.at, point.step, frame.zone)}"


def moment(at: float, step: int | None, zone: tzinfo) -> str:
    """`step 120 · 14 Nov 22:13:20`."""
    when = f"{datetime.fromtimestamp(at, zone):%d %b %H:%M:%S}"
    return when if step is None else f"step {step} · {when}"


def _summary(outline: Outline, frame: Frame) -> str:
    """For who cannot see it."""
    points = outline.finite
    lowest, highest = min(points, key=lambda p: p.value), max(points, key=lambda p: p.value)
    last = max(points, key=lambda point: point.at)
    over = "steps" if frame.over is Over.STEPS else "the wall clock"
    return (
        f"{outline.series.name} over {over}: {len(points)} points. "
        f"Last {last.value:.5g} at step {last.step}, lowest {lowest.value:.5g} at step {lowest.step}, "
        f"highest {highest.value:.5g} at step {highest.step}."
    )
