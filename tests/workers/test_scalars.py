"""What TensorBoard shows of a run is what the run did, once."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from relight.configs.events import Events
from relight.configs.goodput import read_goodput, write_goodput
from relight.workers.metrics.chronicle import Chronicle
from relight.workers.metrics.logger import Outcome
from relight.workers.metrics.to_tensorboard import TensorBoard, come_after
from relight.workers.origin import Origin

pytest.importorskip("tensorboard")


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar as TensorBoard itself reads it, by tag: steps and values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own.
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = EventAccumulator(str(folder))
        read.Reload()
        return {
            tag: [(event.step, round(event.value, 4)) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]
        }


def _life(folder: Path, first_step: int, *, run_dir: Path | None = None, log_every: int = 1) -> Chronicle:
    life = Chronicle(
        Events(None, 0), [TensorBoard(folder)], origin=Origin("i", 1, 0, run_dir, None), log_every=log_every
    )
    life.begin(run="r", url="u", step=first_step, metrics={})
    return life


def test_a_step_that_was_done_again_is_shown_once(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    for first_step, last_step, loss in ((0, 10, 1.0), (6, 12, 2.0)):
        life = _life(folder, first_step)
        for step in range(first_step + 1, last_step + 1):
            life.step(step, torch.tensor(loss), {})
        life.evaluated(last_step, {"accuracy": loss / 10})
        life.end(Outcome.FINISHED)
    assert shown(folder) == {
        "loss": [(step, 1.0) for step in range(1, 7)] + [(step, 2.0) for step in range(7, 13)],
        "metrics/accuracy": [(12, 0.2)],
    }


def test_an_evaluation_that_a_life_begins_with_is_not_shown_twice(tmp_path: Path) -> None:
    """Saved before it was evaluated, and killed after the next step: the evaluation is done again, the step is not."""
    folder = tmp_path / "board"
    killed = _life(folder, 0)
    for step in range(1, 5):
        killed.step(step, 1.0, {})
    killed.step(5, 1.0, {"accuracy": 0.5})
    again = _life(folder, 4)
    again.step(5, 1.0, {"accuracy": 0.5, "f1": 0.25})
    again.end(Outcome.FINISHED)
    killed.end(Outcome.FAILED)
    assert shown(folder) == {
        "loss": [(step, 1.0) for step in range(1, 6)],
        "metrics/accuracy": [(4, 0.5)],
        "metrics/f1": [(4, 0.25)],
    }


def test_what_is_not_done_again_is_there_though_nobody_closed_it(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    killed = _life(folder, 0)
    for step in range(1, 11):
        killed.step(step, torch.tensor(1.0), {})
    assert shown(folder)["loss"] == [(step, 1.0) for step in range(1, 11)]
    killed.end(Outcome.FAILED)


def test_lives_that_begin_within_one_second_are_read_in_their_order(tmp_path: Path) -> None:
    """By name: whole seconds, and then numbers of processes, of which 1000 comes before 999."""
    waits: list[float] = []
    come_after(tmp_path, lambda: 100.25, waits.append)
    (tmp_path / "events.out.tfevents.0000000100.host.999.0").touch()
    come_after(tmp_path, lambda: 100.25, waits.append)
    come_after(tmp_path, lambda: 101.0, waits.append)
    (tmp_path / "events.out.tfevents.0000009000.host.1.0").touch()  # Of a clock that was wrong: no life waits for that.
    come_after(tmp_path, lambda: 101.0, waits.append)
    assert waits == [0.75]


def test_the_goodput_is_the_launchers(tmp_path: Path) -> None:
    run_dir = tmp_path / "attempt-1"
    run_dir.mkdir()
    write_goodput(tmp_path, 0.875)
    life = _life(tmp_path / "board", 0, run_dir=run_dir, log_every=5)
    for step in range(1, 11):
        life.step(step, torch.tensor(1.0), {})
    life.end(Outcome.FINISHED)
    assert read_goodput(run_dir) == 0.875
    assert shown(tmp_path / "board") == {"loss": [(5, 1.0), (10, 1.0)], "goodput": [(5, 0.875), (10, 0.875)]}


def test_another_rank_writes_nothing_and_looks_at_no_loss(tmp_path: Path) -> None:
    class NeverLookedAt(torch.Tensor):
        def __float__(self) -> float:
            raise AssertionError("the loss was waited for")

    board = TensorBoard(tmp_path / "board")
    life = Chronicle(Events(None, 1), [board], origin=Origin("i", 1, 1, tmp_path, None))
    life.begin(run="r", url="u", step=0, metrics={})
    life.step(1, NeverLookedAt(), {"accuracy": 0.5})
    life.end(Outcome.FINISHED)
    assert list(tmp_path.iterdir()) == []
