"""A run by config goes on from an imported checkpoint: a loop's own, and another run's that was exported."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from relight.tests.e2e.running import Run
from relight.workers.exchange.exporting.export import export
from relight.workers.exchange.importing.bringing_in import bring_in
from relight.workers.exchange.importing.wishes import Wishes


def test_a_run_goes_on_from_another_runs_export_in_the_middle_of_the_epoch(tmp_path: Path) -> None:
    source = Run(tmp_path / "source", "train.steps=6", ranks=1)
    assert source.finish("checkpoint.every=4") == 0, source.text
    export(f"{source.url}@4", tmp_path / "there.pt", format="checkpoint")
    run = Run(tmp_path / "back", "train.steps=6", ranks=1)
    bring_in(str(tmp_path / "there.pt"), str(run.url), Wishes())
    assert run.finish() == 0, run.text
    assert "was imported from there.pt, which does not hold all: the random generators begin anew" in run.text
    assert "resumed from step 4 (epoch 0, " in run.text
    assert run.samples() == {step: samples for step, samples in source.samples().items() if step > 4}
    assert [entry["step"] for entry in run.committed()] == [6, 4]


def test_a_run_goes_on_from_a_loops_own_checkpoint_on_two_ranks(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        model(torch.ones(2, 16)).square().sum().backward()
        optimizer.step()
    content = {"epoch": 1, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    torch.save(content, tmp_path / "loop.pt")
    run = Run(tmp_path / "run")
    bring_in(str(tmp_path / "loop.pt"), str(run.url), Wishes())
    assert run.finish("train.steps=5") == 0, run.text
    assert "scheduler, the position in the data (at the beginning of epoch 1) and the random generators" in run.text
    assert run.text.count("begin anew") == 1
    assert "resumed from step 3 (epoch 1, " in run.text
