"""In a notebook, one interpreter runs cells, again and in any order, and is interrupted: nothing of it does harm."""

from __future__ import annotations

import code
import contextlib
import io
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

MODEL = """
import os, signal
import relight, torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
points = torch.randn(96, 3, generator=torch.Generator().manual_seed(1))
loader = DataLoader(TensorDataset(points), batch_size=8, shuffle=True)
"""
CHECKPOINT = """
settings = relight.CheckpointSettings(every=5, when_busy="wait")
checkpoint = relight.Checkpointer(url, model=model, optimizer=optimizer, loader=loader, settings=settings)
"""
TRAIN = """
for epoch in checkpoint.restore().epochs(3):
    for (x,) in loader:
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if checkpoint.progress.step == interrupt_at:
            interrupt_at = None
            os.kill(os.getpid(), signal.SIGINT)
        optimizer.step()
        assert not checkpoint.step(loss=loss)
"""
GO_ON = TRAIN.replace("checkpoint.restore()", "checkpoint.progress")


class Notebook:
    """Cells, as a kernel runs them: one after another in one namespace; errors are shown and not raised."""

    def __init__(self, url: Path, interrupt_at: int | None = None) -> None:
        self.names: dict[str, Any] = {"url": str(url), "interrupt_at": interrupt_at}
        self._kernel = code.InteractiveInterpreter(self.names)
        self._shown = io.StringIO()

    def run(self, *cells: str) -> str:
        """What the last of them shows."""
        for cell in cells:
            self._shown = io.StringIO()
            with contextlib.redirect_stderr(self._shown):
                self._kernel.runcode(compile(cell, "<cell>", "exec"))
        return self.errors

    @property
    def errors(self) -> str:
        """What the last cell has shown, without what Relight says."""
        lines = self._shown.getvalue().splitlines()
        return "\n".join(line for line in lines if not line.startswith("relight: "))

    @property
    def weights(self) -> list[float]:
        return torch.cat([each.detach().flatten() for each in self.names["model"].parameters()]).tolist()


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The weights at the end, if nothing happens."""
    notebook = Notebook(tmp_path_factory.mktemp("calm") / "run")
    assert notebook.run(MODEL, CHECKPOINT, TRAIN) == ""
    return notebook.weights


AGAIN = {
    "the cell of the loop, with restore()": [TRAIN],
    "the cell of the loop, without restore()": [GO_ON],
    "the Checkpointer's cell, too": [CHECKPOINT, TRAIN],
    "all cells": [MODEL, CHECKPOINT, TRAIN],
}


@pytest.mark.parametrize("cells", AGAIN.values(), ids=list(AGAIN))
def test_after_an_interrupt_cells_are_run_again_and_it_ends_as_if_nothing_had_happened(
    cells: list[str], tmp_path: Path, wanted: list[float]
) -> None:
    notebook = Notebook(tmp_path / "run", interrupt_at=17)
    assert "KeyboardInterrupt" in notebook.run(MODEL, CHECKPOINT, TRAIN)
    assert notebook.names["checkpoint"].progress.step == 17
    assert notebook.run(*cells) == ""
    assert notebook.names["checkpoint"].progress.step == 36
    if "restore" not in cells[-1]:
        return  # The interrupted step has drawn its dropout already, and draws again.
    assert notebook.weights == wanted


def test_restore_twice_is_restore_once(tmp_path: Path, wanted: list[float]) -> None:
    notebook = Notebook(tmp_path / "run")
    assert notebook.run(MODEL, CHECKPOINT, "checkpoint.restore(); checkpoint.restore()", TRAIN, TRAIN) == ""
    assert notebook.weights == wanted


def test_the_kernels_own_handlers_come_back_when_the_training_is_over(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    notebook = Notebook(tmp_path / "run", interrupt_at=5)
    notebook.run(MODEL, CHECKPOINT, TRAIN)
    os.kill(os.getpid(), signal.SIGTERM)  # It is a notice as long as something is to be saved, also between two cells.
    assert notebook.run(CHECKPOINT) == ""
    assert notebook.run(TRAIN) == ""
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


def test_a_thread_may_train_and_hears_no_signals(tmp_path: Path, wanted: list[float]) -> None:
    notebook = Notebook(tmp_path / "run")
    thread = threading.Thread(target=notebook.run, args=(MODEL, CHECKPOINT, TRAIN))
    thread.start()
    thread.join(100)
    assert notebook.errors == ""
    assert notebook.weights == wanted
