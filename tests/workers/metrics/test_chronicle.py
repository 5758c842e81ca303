"""What rank 0 tells of the training: little, in time, and without ever stopping it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from relight.configs.events import Events, read_events
from relight.storage.persist import Outcome as SaveOutcome
from relight.workers.metrics.chronicle import Chronicle
from relight.workers.metrics.fanout import Loggers
from relight.workers.metrics.logger import Logger, Outcome, RunFacts
from relight.workers.metrics.pace import Pace
from relight.workers.metrics.readings import Readings
from relight.workers.origin import Origin

MONTH_S = 30 * 86400.0


class Listener:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def begin(self, run: RunFacts) -> None:
        self.heard.append(run)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self.heard.append((step, dict(scalars)))

    def end(self, outcome: Outcome) -> None:
        self.heard.append(outcome)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _chronicle(
    folder: Path | None, *loggers: Logger, rank: int = 0, clock: Clock | None = None, config: str | None = None
) -> Chronicle:
    origin = Origin("i", 1, rank, folder, config)
    return Chronicle(Events(folder, rank), loggers, origin=origin, clock=clock or Clock())


def _told(folder: Path, *, but: tuple[str, ...] = ("at", "rank")) -> list[dict[str, Any]]:
    return [{name: value for name, value in event.items() if name not in but} for event in read_events(folder)]


def test_the_journal_gets_a_point_now_and_then_and_the_last_one(tmp_path: Path) -> None:
    clock = Clock()
    chronicle = _chronicle(tmp_path, clock=clock)
    chronicle.begin(run="r", url="s3://b/r", step=10, metrics={})
    for step in range(11, 32):
        chronicle.step(step, torch.tensor(1 / step), {})
        clock.now += 0.0625
    chronicle.end(Outcome.FINISHED)
    assert _told(tmp_path) == [
        {"event": "resumed", "step": 10, "url": "s3://b/r", "run": "r"},
        *({"event": "point", "step": step, "loss": float(f"{1 / step:.6g}")} for step in (11, 15, 19, 23, 27, 31)),
    ]


def test_what_is_told_in_a_month_is_no_more_than_ten_thousand_points() -> None:
    clock = Clock()
    pace, count = Pace(clock=clock), 0
    while clock.now < MONTH_S:
        count += pace.due()
        clock.now += max(0.05, clock.now / 1e5)  # Steps that are always shorter than the pace.
    assert count < 12_000
    young, old = Pace(clock=clock), Pace(MONTH_S, clock=clock)
    assert (young.due(), old.due()) == (True, True)
    clock.now += 1.0
    assert (young.due(), old.due()) == (True, False), "a restart does not begin anew"


@pytest.mark.parametrize(("rank", "told"), [(3, []), (4, [{"event": "stores", "url": "/runs/x"}])])
def test_of_another_host_the_first_rank_tells_where_the_run_lives_and_nothing_else(
    tmp_path: Path, rank: int, told: list[dict[str, Any]]
) -> None:
    origin = Origin("i", 1, rank, tmp_path, None, local_world_size=4)
    chronicle = Chronicle(Events(tmp_path, rank), origin=origin)
    chronicle.begin(run="r", url="/runs/x", step=0, metrics={})
    chronicle.step(1, 0.5, {"accuracy": 1.0})
    chronicle.end(Outcome.FINISHED)
    assert _told(tmp_path) == told


def test_a_loss_may_be_anything_and_the_journal_is_json(tmp_path: Path) -> None:
    losses: list[torch.Tensor | float] = [math.nan, math.inf, torch.tensor([-math.inf]), 3]
    for number, loss in enumerate(losses):
        chronicle = _chronicle(tmp_path / str(number))
        (tmp_path / str(number)).mkdir()
        chronicle.step(1, loss, {})
    found = [_told(tmp_path / str(number))[0]["loss"] for number in range(4)]
    assert found == ["nan", "inf", "-inf", 3.0]


def test_what_is_no_single_number_is_not_read(tmp_path: Path) -> None:
    chronicle = _chronicle(tmp_path)
    chronicle.step(1, torch.ones(3), {})
    chronicle.step(2, None, {})
    assert _told(tmp_path) == []


def test_a_loss_that_lies_in_parts_on_several_ranks_is_not_put_together() -> None:
    """That would be a collective, and the other ranks do not know of it."""

    class Partial:
        def is_replicate(self) -> bool:
            return False

    class Spread(torch.Tensor):
        placements = (Partial(),)

        def __float__(self) -> float:
            raise AssertionError("a collective")

    readings = Readings()
    readings.put(1, torch.ones(()).as_subclass(Spread), 1)
    assert readings.take(wait=True) == []


def test_an_evaluation_is_told_once_with_the_step_it_was_made_at(tmp_path: Path) -> None:
    listener = Listener()
    chronicle = _chronicle(tmp_path, listener)
    chronicle.begin(run="r", url="u", step=3, metrics=(metrics := {"accuracy": 0.5}))
    chronicle.step(4, 1.0, metrics)
    metrics = {"accuracy": 0.5}  # The same again, and yet another evaluation.
    chronicle.step(5, 1.0, metrics)
    metrics["accuracy"] = 0.75  # In place.
    chronicle.step(6, 1.0, metrics)
    chronicle.step(7, 1.0, metrics)
    evaluated = [(event["step"], event["metrics"]) for event in _told(tmp_path) if event["event"] == "evaluated"]
    assert evaluated == [(4, {"accuracy": 0.5}), (5, {"accuracy": 0.75})]
    assert [each for each in listener.heard if "metrics/accuracy" in str(each)] == [
        (4, {"metrics/accuracy": 0.5}), (5, {"metrics/accuracy": 0.75}),
    ]  # fmt: skip
    steps = [each[0] for each in listener.heard[1:]]
    assert steps == sorted(steps)


def test_a_save_is_told_with_its_stall_and_how_long_it_took(tmp_path: Path) -> None:
    chronicle = _chronicle(tmp_path)
    chronicle.saves(10, 0.25)
    chronicle.stalls(0.5)
    chronicle.saves(20, 0.125)
    chronicle.saves(30, 0.0625)
    chronicle.saved(SaveOutcome(10, committed=True, took_s=2.0))
    chronicle.saved(SaveOutcome(30, failed="no space left", took_s=1.0))
    assert _told(tmp_path) == [
        {"event": "saved", "step": 10, "stall_s": 0.75, "persist_s": 2.0},
        {"event": "saved", "step": 30, "stall_s": 0.0625, "persist_s": 1.0, "failed": "no space left"},
    ]


def test_of_very_many_saves_not_all_are_told(tmp_path: Path) -> None:
    clock = Clock()
    chronicle = _chronicle(tmp_path, clock=clock)
    for step in range(1000):
        chronicle.saves(step, 0.1)
        chronicle.saved(SaveOutcome(step, committed=True))
        clock.now += 0.01
    assert 500 <= len(_told(tmp_path)) < 600


def test_a_logger_is_told_which_run_it_is_and_how_it_ended(tmp_path: Path) -> None:
    listener = Listener()
    chronicle = _chronicle(None, listener, config='{"name": "digits", "train": {"lr": 0.1}}')
    chronicle.begin(run="cafe", url="/runs/x", step=7, metrics={})
    chronicle.step(8, 0.5, {})
    chronicle.end(Outcome.PREEMPTED)
    chronicle.end(Outcome.FAILED)
    facts = RunFacts(
        id="cafe", name="digits", url="/runs/x", first_step=7, config={"name": "digits", "train": {"lr": 0.1}}
    )
    assert listener.heard == [facts, (8, {"loss": 0.5}), Outcome.PREEMPTED]


@pytest.mark.parametrize("method", ["begin", "log", "end"])
def test_a_logger_that_raises_is_told_of_once_and_the_others_go_on(method: str) -> None:
    class Broken(Listener):
        pass

    def refuse(*_: Any) -> None:
        raise ConnectionError("no route to host")

    setattr(Broken, method, refuse)
    said: list[str] = []
    listener = Listener()
    loggers = Loggers([Broken(), listener], said.append)
    loggers.begin(RunFacts(id="r", name="n", url="u"))
    for step in (1, 2, 3):
        loggers.log(step, {"loss": 1.0})
    loggers.end(Outcome.FINISHED)
    assert said == ["Broken is switched off, the training goes on: ConnectionError: no route to host"]
    assert len(listener.heard) == 5


@given(some.lists(some.one_of(some.floats(), some.integers(-9, 9)), max_size=30))
def test_readings_come_in_the_order_in_which_they_were_put(losses: list[float]) -> None:
    readings = Readings()
    found = []
    for step, loss in enumerate(losses):
        readings.put(step, torch.tensor(loss, dtype=torch.float64) if step % 2 else loss, 1)
        found += readings.take()
    assert [reading.step for reading in found] == list(range(len(losses)))


@pytest.mark.soak  # With the long ones, which run where there is time, and a GPU perhaps.
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_loss_is_read_without_waiting_for_it() -> None:
    readings = Readings()
    readings.put(0, torch.zeros((), device="cuda"), 1)  # The first makes the memory it is read into.
    readings.take(wait=True)
    torch.cuda._sleep(2_000_000_000)
    readings.put(1, torch.ones((), device="cuda"), 1)
    assert readings.take() == [], "the device is busy still"
    assert [reading.value for reading in readings.take(wait=True)] == [1.0]
