"""From numbers to places: axes, thinning, branches; and nothing of a run becomes markup."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as some

from relight.orchestrator.reporting import scales
from relight.orchestrator.reporting.branches import Branch, stretches
from relight.orchestrator.reporting.markup import element
from relight.orchestrator.reporting.story import Point
from relight.orchestrator.reporting.thinning import spread, thin

_FINITE = some.floats(-1e12, 1e12)


def _points(*steps: int) -> tuple[Point, ...]:
    return tuple(Point(float(step), step, 1.0) for step in steps)


def test_a_later_branch_takes_back_what_came_after_the_step_it_began_with() -> None:
    found = stretches([Branch(0, _points(1, 2, 3, 4)), Branch(2, _points(3, 4, 5)), Branch(5, _points(6))])
    assert [([p.step for p in each.points], each.abandoned) for each in found] == [
        ([1, 2], False), ([2, 3, 4], True), ([3, 4, 5], False), ([6], False),
    ]  # fmt: skip


def test_a_branch_that_goes_back_further_takes_several_back_though_it_measured_nothing() -> None:
    found = stretches([Branch(0, _points(1, 2, 3)), Branch(3, _points(4, 5)), Branch(1, ())])
    assert [([p.step for p in each.points], each.abandoned) for each in found] == [
        ([1], False), ([1, 2, 3], True), ([4, 5], True),
    ]  # fmt: skip


@given(some.lists(some.tuples(_FINITE, _FINITE), min_size=1, max_size=300), some.integers(1, 20))
def test_thinning_keeps_the_ends_and_the_extremes_and_is_bounded(points: list[tuple[float, float]], most: int) -> None:
    points.sort(key=lambda point: point[0])
    few = thin(points, lambda point: point[0], lambda point: point[1], most)
    assert len(few) <= 2 * (most + 1) + 2
    assert few == sorted(few, key=lambda point: point[0])
    assert (few[0][0], few[-1][0]) == (points[0][0], points[-1][0])
    assert min(p[1] for p in few) == min(p[1] for p in points)
    assert max(p[1] for p in few) == max(p[1] for p in points)


def test_a_spike_of_one_point_in_a_million_is_still_there() -> None:
    points = [(n, 0.0) for n in range(1_000_000)]
    points[765_432] = (765_432, 9.0)
    few = thin(points, lambda point: point[0], lambda point: point[1], 300)
    assert (765_432, 9.0) in few
    assert len(few) <= 602


@given(some.lists(some.tuples(_FINITE, some.integers(0, 5)), min_size=1, max_size=200), some.integers(1, 20))
def test_of_each_part_the_weightiest_is_left(points: list[tuple[float, int]], slots: int) -> None:
    few = spread(points, lambda point: point[0], lambda point: point[1], slots)
    assert len(few) <= max(slots, 1)
    assert max(p[1] for p in few) == max(p[1] for p in points)


@given(_FINITE, _FINITE)
def test_on_a_linear_axis_values_and_ticks_lie_within_it(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    axis = scales.linear(low, high, margin=0.04)
    assert -1e-9 <= axis.place(low) <= axis.place(high) <= 1 + 1e-9
    assert all(-1e-9 <= tick.place <= 1 + 1e-9 for tick in axis.ticks)
    assert len(axis.ticks) <= 8


@given(some.floats(1e-12, 1e12), some.floats(1e-12, 1e12))
def test_on_a_logarithmic_axis_too(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    axis = scales.logarithmic(low, high)
    assert -1e-9 <= axis.place(low) <= axis.place(high) <= 1 + 1e-9
    assert len(axis.ticks) <= 12


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1.5, ["0", "0.5", "1.0", "1.5"]),
        (0, 160, ["0", "50", "100", "150"]),
        (0, 3_000_000, ["0", "0.5M", "1.0M", "1.5M", "2.0M", "2.5M", "3.0M"]),
        (0, 60_000, ["0", "10k", "20k", "30k", "40k", "50k", "60k"]),
        (5, 5, ["4.6", "4.8", "5.0", "5.2", "5.4"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, labels: list[str]) -> None:
    assert [tick.label.removeprefix("-") for tick in scales.linear(low, high).ticks][: len(labels)] == labels


@pytest.mark.parametrize(
    ("span_s", "first", "second"),
    [(20, "12:00:00", "12:00:05"), (3000, "12:00", "12:10"), (86400 * 30, "16 Nov", "23 Nov")],
)
def test_the_clock_is_that_of_the_zone(span_s: float, first: str, second: str) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    begin = datetime(2023, 11, 14, 12, tzinfo=zone).timestamp()
    axis = scales.clock(begin, begin + span_s, zone)
    assert [tick.label for tick in axis.ticks][:2] == [first, second]
    assert scales.clock(begin, begin, UTC).high > begin


def test_what_comes_from_a_run_is_text_and_never_markup() -> None:
    made = element("td", "<script>alert(1)</script>", element("b", "&"), title='"><script>', data_x=1, hidden=True)
    assert made == (
        '<td title="&quot;&gt;&lt;script&gt;" data-x="1" hidden>&lt;script&gt;alert(1)&lt;/script&gt;<b>&amp;</b></td>'
    )
