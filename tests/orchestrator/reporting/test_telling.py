"""What the report tells is what the journals and checkpoints say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from relight.orchestrator.reporting.making import document, read
from relight.orchestrator.reporting.story import Kind, Save, Series, Story
from relight.storage.errors import NotFound
from relight.tests.orchestrator.reporting.scenes import NOON, TRACEBACK, Told, eventful, loss


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("run")
    over_at = eventful(folder)
    return read(str(folder), over_at)


def _steps(series: Series, *, abandoned: bool) -> list[list[int]]:
    return [[p.step for p in each.points] for each in series.stretches if each.abandoned is abandoned]


def test_every_step_stands_once_and_what_was_done_again_is_told_apart(story: Story) -> None:
    told = story.series[0]
    assert told.name == "loss"
    standing = [step for steps in _steps(told, abandoned=False) for step in steps]
    assert standing == list(range(1, 101))
    assert _steps(told, abandoned=True) == [list(range(30, 36)), list(range(70, 81))]
    assert all(p.value == loss(p.step, 2) for each in told.stretches for p in each.points if 36 < p.step < 62)


def test_evaluations_are_series_of_their_own(story: Story) -> None:
    accuracy = story.series[1]
    assert (accuracy.name, accuracy.what) == ("accuracy", "evaluation")
    assert [s for steps in _steps(accuracy, abandoned=False) for s in steps] == list(range(10, 101, 10))


def test_marks_are_where_it_happened(story: Story) -> None:
    assert [(mark.kind, mark.step) for mark in story.marks] == [
        (Kind.FAILURE, 35),
        (Kind.PREEMPTION, 62),
        (Kind.FAILURE, 80),
    ]


def test_a_failure_has_its_cause_its_place_its_traceback_and_what_was_decided(story: Story) -> None:
    bug, lost = story.failures
    assert (bug.kind, bug.what, bug.rank, bug.host, bug.step, bug.attempt) == (
        "USER_BUG", 'ValueError: <no> "column" & all', 0, "alpha", 35, 1,
    )  # fmt: skip
    assert (bug.details, bug.beside, bug.decision) == (TRACEBACK, ("rank 1: reset",), "Restart: first failure")
    assert (lost.kind, lost.step, lost.rank) == ("LAUNCHER_LOST", 80, None)


def test_a_life_says_from_where_to_where_and_how_it_ended(story: Story) -> None:
    assert [(row.from_step, row.to_step, row.attempts, row.failures, row.how) for row in story.lives] == [
        (0, 62, 2, 1, "preempted"),
        (62, 80, 1, 0, "ended without a word"),
        (70, 100, 1, 0, "finished"),
    ]


def test_saves_have_their_times_and_those_that_failed_their_reason(story: Story) -> None:
    assert [save.step for save in story.saves if not save.failed] == [10, 20, 30, 40, 50, 60, 70, 80, 80, 90, 100]
    assert [save.failed for save in story.saves if save.failed] == ["no space left on <disk>"]
    assert (story.saves[0].stall_s, story.saves[0].persist_s) == (0.011, 0.51)


def test_the_accounts_are_those_of_status_and_add_up(story: Story) -> None:
    assert sum(story.facts["seconds"].values()) == pytest.approx(story.facts["wall_s"], rel=1e-3)
    assert (story.facts["state"], story.facts["lives"], story.facts["steps_redone"]) == ("finished", 3, 15)


def test_as_json_it_is_whole_and_has_no_infinities(tmp_path: Path) -> None:
    life = Told("aaa", NOON)
    life.launch()
    life.begin(1, 0)
    life.record("points", attempt=1, points=[[NOON, 1, "nan"], [NOON, 2, "-inf"], [NOON, 3, 0.5]])
    life.store(tmp_path)
    story = read(str(tmp_path), life.at)
    told = json.loads(json.dumps(document(story), allow_nan=False))
    assert [point["value"] for point in told["series"][0]["stretches"][0]["points"]] == ["nan", "-inf", 0.5]
    assert math.isnan(story.series[0].stretches[0].points[0].value)


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    life = Told("aaa", NOON)
    life.launch()
    life.steps(1, 1, 5, resumed=0)
    for points in (None, 7, [[1]], [["a", "b", "c"]], [[NOON, True, 1.0]], [[NOON, 1, None]], "x"):
        life.record("points", attempt=1, points=points)
    for metrics in (None, 3, {"accuracy": None, "f1": "high"}):
        life.record("evaluated", attempt=1, step=3, metrics=metrics)
    life.record("saved", attempt=1, step="7", stall_s="long")
    life.record("saved", attempt=1, step=4, stall_s="long")
    life.record("failed", kind=None, what=None, beside="x", step="9")
    life.store(tmp_path)
    story = read(str(tmp_path), life.at)
    assert _steps(story.series[0], abandoned=False) == [[1, 2, 3, 4, 5]]
    assert len(story.series) == 1
    assert list(story.saves) == [Save(life.at, 4)]
    assert story.failures[0].beside == ()


def test_where_nobody_wrote_anything_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        read(str(tmp_path / "none"), NOON)
    assert str(caught.value) == f"there is no run at {tmp_path}/none"
    (tmp_path / "run.json").touch()
    with pytest.raises(NotFound) as caught:
        read(str(tmp_path), NOON)
    assert str(caught.value) == f"there is nothing to report yet at {tmp_path}: neither a journal nor a checkpoint"
