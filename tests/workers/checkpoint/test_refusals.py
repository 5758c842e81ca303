"""What does not fit, or cannot be saved, is refused by name, with the way out, and nothing is applied."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from relight.configs.protocol import ExitCode
from relight.tests.workers.checkpoint.jobs import Job
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.errors import NotCaptured, StateMismatch, StorageRefused


def test_another_shape_is_refused_by_name_and_nothing_is_applied(saved: Path) -> None:
    job = Job(saved, width=9)
    before = {name: value.clone() for name, value in job.model.state_dict().items()}
    with pytest.raises(StateMismatch) as caught:
        job.checkpointer.restore()
    message = str(caught.value)
    assert message.startswith("the checkpoint of step 4 does not fit; nothing was applied:")
    assert "model/0.weight: shape [8, 4] in the checkpoint, [9, 4] here" in message
    assert "choose another storage.url to start a new run" in message
    assert caught.value.exit_code == ExitCode.BAD_CONFIG
    assert all(torch.equal(before[name], value) for name, value in job.model.state_dict().items())


def planted(job: Job, change: str) -> None:
    parts = job.checkpointer._parts
    if change == "dtype":
        job.model.double()
    elif change == "layer":
        job.model.append(nn.Linear(1, 1))
    elif change == "scheduler":
        del parts.shared["scheduler"]  # type: ignore[attr-defined]
    elif change == "dataset":
        parts.shared["data"]._facts["length"] = 41  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("dtype", "model/0.weight: dtype F32 in the checkpoint, F64 here"),
        ("layer", "model/4.weight: in this model, not in the checkpoint"),
        ("scheduler", "scheduler: in the checkpoint, but not given here"),
        ("dataset", "data: length is 40 in the checkpoint, 41 here"),
    ],
)
def test_whatever_else_differs_is_named(saved: Path, change: str, says: str) -> None:
    job = Job(saved)
    planted(job, change)
    with pytest.raises(StateMismatch) as caught:
        job.checkpointer.restore()
    assert says in str(caught.value)


def test_the_storage_of_another_run_is_refused(saved: Path) -> None:
    shutil.rmtree(saved)
    Job(saved, identity={"name": "a"}).train(until=1)
    with pytest.raises(StorageRefused) as caught:
        Job(saved, identity={"name": "b"}).checkpointer.restore()
    assert "holds another run (name=a; this one has name=b)" in str(caught.value)


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()


def test_a_loader_whose_position_cannot_be_saved_is_refused_with_the_way_out(tmp_path: Path) -> None:
    loader: DataLoader[Any] = DataLoader(Endless(), batch_size=2)
    with pytest.raises(NotCaptured) as caught:
        Checkpointer(str(tmp_path), model=nn.Linear(1, 1), loader=loader)
    assert "the position in a DataLoader of iterable data cannot be saved" in str(caught.value)
    assert "StatefulDataLoader" in str(caught.value)


def test_extra_state_may_not_take_a_name_of_ours(tmp_path: Path) -> None:
    with pytest.raises(NotCaptured) as caught:
        Checkpointer(str(tmp_path), model=nn.Linear(1, 1), extra={"model": nn.Linear(1, 1)})
    assert "extra state may not be called model" in str(caught.value)


def test_a_step_before_restore_says_what_is_missing(tmp_path: Path) -> None:
    job = Job(tmp_path / "run")
    with pytest.raises(RuntimeError) as caught:
        job.checkpointer.step()
    assert "call restore() before the first step" in str(caught.value)
