"""How often to save when Relight chooses, and the measurements that it is chosen by."""

from __future__ import annotations

import math

import pytest

from relight.configs.every import Every
from relight.workers.checkpoint.cadence import Cadence, Pace
from relight.workers.checkpoint.interval import LONGEST_S, PRIOR_FAILURE_S, SHORTEST_S, advise, mtbf
from relight.workers.checkpoint.meter import Meter

_DAY_S = 86400.0


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _lost(interval_s: float, cost_s: float, mtbf_s: float) -> float:
    """The part of the time that goes to saving and to redoing, as counted by Young."""
    return cost_s / interval_s + interval_s / (2 * mtbf_s)


@pytest.mark.parametrize(("cost_s", "mtbf_s"), [(1.0, _DAY_S), (5.0, 40_000.0), (0.2, 3600.0)])
def test_no_other_interval_loses_less(cost_s: float, mtbf_s: float) -> None:
    advice = advise(cost_s, mtbf_s, overhead=0.5)
    assert advice.bound == "young"
    best = _lost(advice.interval_s, cost_s, mtbf_s)
    assert all(best <= _lost(advice.interval_s * factor, cost_s, mtbf_s) for factor in (0.5, 0.9, 1.1, 2.0))


def test_saving_never_takes_more_than_its_budget() -> None:
    advice = advise(10.0, 600.0, overhead=0.01)
    assert (advice.interval_s, advice.bound) == (1000.0, "overhead")


def test_nothing_is_saved_without_a_pause_nor_hardly_ever() -> None:
    assert advise(0.0, _DAY_S, overhead=0.01).interval_s == SHORTEST_S
    longest = advise(30.0, 100 * _DAY_S, overhead=0.01)
    assert (longest.interval_s, longest.bound) == (LONGEST_S, "longest")
    assert advise(100.0, _DAY_S, overhead=0.01).interval_s == 10_000.0  # The budget outweighs the longest interval.


def test_failures_that_were_seen_outweigh_what_was_assumed() -> None:
    assert mtbf(0, 0.0) == PRIOR_FAILURE_S
    assert mtbf(0, _DAY_S) > PRIOR_FAILURE_S
    assert mtbf(99, 100 * 600.0) == pytest.approx(600.0 + PRIOR_FAILURE_S / 100)


def test_an_automatic_cadence_follows_what_the_last_save_cost() -> None:
    clock = Clock()
    cadence = Cadence("auto", mtbf_s=_DAY_S, overhead=0.01, clock=clock)
    asked = [cadence.asks]
    clock.now += SHORTEST_S
    asked += [cadence.asks]
    assert cadence.note(7, agreed=True)
    cadence.saved()
    advice = cadence.learn(1.0)
    assert advice is not None
    clock.now += advice.interval_s - 1
    asked += [cadence.asks]
    clock.now += 1
    assert [*asked, cadence.asks] == [False, True, False, True]


def test_a_cadence_that_was_given_learns_nothing() -> None:
    cadence = Cadence(Every(steps=5))
    assert cadence.learn(100.0) is None
    assert [step for step in range(1, 12) if cadence.note(step, agreed=False) and not cadence.saved()] == [5, 10]  # type: ignore[func-returns-value]


def test_copies_in_memory_cost_no_more_than_their_budget() -> None:
    clock = Clock()
    meter = Meter(clock)
    pace = Pace("auto", overhead=0.01)
    pace.start(100)
    asked = []
    for step in range(101, 400):
        clock.now += 0.5
        meter.begin()
        if pace.asks(step, meter):
            asked.append(step)
            clock.now += 0.04
            meter.snapshot(0.04)
            pace.copied(step)
        meter.end(busy=False)
    assert asked[0] == 103
    assert set(map(int.__sub__, asked[1:], asked)) == {math.ceil(0.04 / (0.01 * 0.5))}


@pytest.mark.parametrize(("every", "due"), [(1, [11, 12, 13, 14]), (3, [13]), ("never", []), ("auto", [12])], ids=str)
def test_a_given_pace_is_kept_and_an_automatic_one_is_agreed_on(every: int, due: list[int]) -> None:
    pace = Pace(every, overhead=0.01)
    pace.start(10)
    found = []
    for step in range(11, 15):
        if pace.note(step, agreed=step == 12):
            found.append(step)
            pace.copied(step)
    assert found == due


def test_a_save_is_charged_with_its_stall_and_with_what_it_slows_down() -> None:
    clock = Clock()
    meter = Meter(clock)
    for _ in range(5):
        meter.begin()
        meter.end(busy=False)
        clock.now += 1.0
    assert meter.step_s == 1.0
    meter.begin()
    clock.now += 0.25
    meter.saved(0.25)
    meter.end(busy=True)
    for took, busy in [(1.5, True), (1.25, True), (1.0, False)]:
        clock.now += took
        meter.begin()
        meter.end(busy=busy)
    assert meter.save_cost_s == 1.0
    assert meter.step_s == 1.0


def test_an_evaluation_is_no_step() -> None:
    clock = Clock()
    meter = Meter(clock)
    for took in (1.0, 1.0, 1.0):
        meter.begin()
        meter.end(busy=False)
        clock.now += took
    meter.pause()
    clock.now += 100.0
    meter.begin()
    assert meter.step_s == 1.0
