"""What TensorBoard shows of a run is what the run did, once."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from relight.configs.goodput import read_goodput, write_goodput
from relight.configs.protocol import ENV_RUN_DIR
from relight.workers.scalars import open_scalars

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


def test_a_step_that_was_done_again_is_shown_once(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    for first_step, last_step, loss in ((0, 10, 1.0), (6, 12, 2.0)):
        scalars = open_scalars(str(folder), rank=0, every=1, first_step=first_step)
        for step in range(first_step + 1, last_step + 1):
            scalars.step(step, torch.tensor(loss))
        scalars.metrics(last_step, {"accuracy": loss / 10})
        scalars.close()
    assert shown(folder) == {
        "loss": [(step, 1.0) for step in range(1, 7)] + [(step, 2.0) for step in range(7, 13)],
        "metrics/accuracy": [(12, 0.2)],
    }


def test_what_is_not_done_again_is_there_though_nobody_closed_it(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    killed = open_scalars(str(folder), rank=0, every=1, first_step=0)
    for step in range(1, 11):
        killed.step(step, torch.tensor(1.0))
    assert shown(folder)["loss"] == [(step, 1.0) for step in range(1, 11)]
    killed.close()


def test_the_goodput_is_the_launchers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_RUN_DIR, str(tmp_path / "attempt-1"))
    (tmp_path / "attempt-1").mkdir()
    scalars = open_scalars(str(tmp_path / "board"), rank=0, every=5, first_step=0)
    for step in range(1, 11):
        scalars.step(step, torch.tensor(1.0))
        write_goodput(tmp_path, 0.875)
    scalars.close()
    assert read_goodput(tmp_path / "attempt-1") == 0.875
    assert shown(tmp_path / "board") == {"loss": [(5, 1.0), (10, 1.0)], "goodput": [(5, 0.875), (10, 0.875)]}


@pytest.mark.parametrize(("folder", "rank"), [(None, 0), ("board", 1)])
def test_nobody_else_writes_or_looks_at_a_loss(tmp_path: Path, folder: str | None, rank: int) -> None:
    class NeverLookedAt(torch.Tensor):
        def __float__(self) -> float:
            raise AssertionError("the loss was waited for")

    scalars = open_scalars(str(tmp_path / folder) if folder else None, rank=rank, every=1, first_step=0)
    scalars.step(1, NeverLookedAt())
    scalars.metrics(1, {"accuracy": 0.5})
    scalars.close()
    assert list(tmp_path.iterdir()) == []
