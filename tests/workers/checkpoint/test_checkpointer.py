"""The library door, in a single process: what is saved comes back, and trouble stops nothing."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from relight.configs.heartbeat import Phase, read_beat
from relight.configs.protocol import ENV_RUN_DIR, ExitCode
from relight.storage.backends.open import open_backend
from relight.storage.verify import verify
from relight.tests.workers.checkpoint.jobs import Job, manifests, steps_with_trouble
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.errors import SavesKeepFailing, StorageTrouble
from relight.workers.signals import StopFlag


def test_a_crashed_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    random.seed(1), np.random.seed(1)  # noqa: NPY002
    whole = Job(tmp_path / "whole").train()
    random.seed(1), np.random.seed(1)  # noqa: NPY002
    crashed = Job(tmp_path / "crashed").train(until=7)
    crashed.checkpointer._session.saver.close()  # type: ignore[union-attr]  # the crash comes after the save of step 4
    random.seed(99), np.random.seed(99)  # noqa: NPY002
    resumed = Job(tmp_path / "crashed").train()
    assert min(resumed.losses) == 5
    assert {**crashed.losses, **resumed.losses} == whole.losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_end_of_the_epochs_is_a_committed_checkpoint(tmp_path: Path) -> None:
    Job(tmp_path / "run", every=1000).train()
    (manifest,) = manifests(tmp_path / "run")
    assert (manifest.step, manifest.progress.epoch, manifest.progress.samples) == (10, 2, 0)
    assert verify(open_backend(str(tmp_path / "run")), manifest) == []


def test_a_finished_run_that_is_started_again_has_nothing_left_to_do(tmp_path: Path) -> None:
    Job(tmp_path / "run").train()
    before = manifests(tmp_path / "run")
    assert Job(tmp_path / "run").train().losses == {}
    assert manifests(tmp_path / "run") == before


def test_a_stop_saves_the_step_it_is_at_and_says_run_me_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(tmp_path / "run", every=1000)
    with job.stop:
        os.kill(os.getpid(), signal.SIGTERM)
        job.train()
    assert job.checkpointer.exit_code == ExitCode.PREEMPTED
    (manifest,) = manifests(tmp_path / "run")
    # The flag was up at the first step, was voted on after it, and is acted on after the second.
    assert manifest.step == max(job.losses) == 2
    assert "told to stop: saved step 2. Run the same command again to go on" in capsys.readouterr().err
    assert min(Job(tmp_path / "run").train().losses) == 3


def test_a_failed_save_stops_nothing_and_the_next_one_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = tmp_path / "run"
    job = Job(url, every=2)
    job.checkpointer.restore()
    (url / "checkpoints").write_text("in the way")
    steps_with_trouble(job, 4)
    (url / "checkpoints").unlink()
    steps_with_trouble(job, 4)
    job.checkpointer.finish()
    assert manifests(url)[0].step == 8
    failures = [line for line in capsys.readouterr().err.splitlines() if "the save of step" in line]
    assert failures
    assert all("Training goes on" in line and "checkpoints" in line for line in failures), failures


def test_too_many_failed_saves_in_a_row_stop_the_run_with_the_reason(tmp_path: Path) -> None:
    url = tmp_path / "run"
    job = Job(url, every=1, max_failed_saves=3)
    job.checkpointer.restore()
    (url / "checkpoints").write_text("in the way")
    with pytest.raises(SavesKeepFailing) as caught:
        steps_with_trouble(job, 12)
    assert str(caught.value).startswith("3 saves in a row have failed, the last one at step ")
    assert "checkpoints" in str(caught.value)
    assert caught.value.exit_code == ExitCode.GAVE_UP


def test_a_final_save_that_fails_is_an_error_that_says_why(tmp_path: Path) -> None:
    url = tmp_path / "run"
    job = Job(url, every=1000)
    job.checkpointer.restore()
    job.checkpointer.step(loss=1.0)
    (url / "checkpoints").write_text("in the way")
    with pytest.raises(StorageTrouble) as caught:
        job.checkpointer.finish()
    assert str(caught.value).startswith("the final checkpoint of step 1 could not be saved: cannot ")
    assert caught.value.exit_code == ExitCode.FAILED


def test_retention_never_deletes_what_the_run_resumed_from(tmp_path: Path) -> None:
    url = tmp_path / "run"
    Job(url, every=3).train(until=5).checkpointer._session.saver.close()  # type: ignore[union-attr]
    job = Job(url, every=1, keep_last=1)
    job.checkpointer.restore()
    steps_with_trouble(job, 4)
    newest, resumed_from = [manifest.step for manifest in manifests(url)]
    assert newest > resumed_from == 3


def test_extra_state_comes_back(tmp_path: Path) -> None:
    class Counter:
        def __init__(self) -> None:
            self.value: Any = 0

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.value = state["value"]

    def make(counter: Counter) -> Checkpointer:
        return Checkpointer(str(tmp_path / "run"), model=nn.Linear(1, 1), extra={"counter": counter}, stop=StopFlag())

    first, second = Counter(), Counter()
    checkpointer = make(first)
    checkpointer.restore()
    first.value = {"ema": torch.arange(3), "note": ("a", 1)}
    checkpointer.step()
    checkpointer.finish()
    make(second).restore()
    assert torch.equal(second.value["ema"], torch.arange(3))
    assert second.value["note"] == ("a", 1)


def test_the_launcher_sees_steps_and_commits_in_the_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_RUN_DIR, str(tmp_path))
    job = Job(tmp_path / "run", every=2)
    job.checkpointer.restore()
    steps_with_trouble(job, 3)
    beat = read_beat(tmp_path, 0)
    assert beat is not None
    assert (beat.phase, beat.step, beat.pid) == (Phase.TRAINING, 3, os.getpid())
    steps_with_trouble(job, 1)
    beat = read_beat(tmp_path, 0)
    assert beat is not None
    assert beat.committed_step == 2
    job.checkpointer.finish()
    beat = read_beat(tmp_path, 0)
    assert beat is not None
    assert (beat.phase, beat.committed_step) == (Phase.FINISHED, 4)


def test_the_safetensors_library_alone_reads_a_shard(saved: Path) -> None:
    from safetensors.torch import load_file

    (shard,) = saved.glob("checkpoints/step-000000000004-*/*.safetensors")
    tensors = load_file(shard)
    assert tensors["model/0.weight"].shape == (8, 4)
    assert tensors["optimizer/state/0.weight/exp_avg"].dtype == torch.float32


def test_a_copy_in_memory_that_one_rank_leaves_out_does_not_part_the_ranks(tmp_path: Path) -> None:
    """Each rank names the attempt by itself: both must give the next save one name."""
    jobs = [Job(tmp_path / name, every=1000) for name in ("makes it", "leaves it out")]
    names = []
    for job in jobs:
        job.train(until=2)
        assert job.checkpointer._session is not None
        saver = job.checkpointer._session.saver
        captured = job.checkpointer._session._capture()
        if job is jobs[1]:
            saver._arenas.has_free = lambda: False  # type: ignore[method-assign]
        saver.keep(captured, job.checkpointer.progress)
        names.append(saver._job(job.checkpointer.progress).id.nonce[:3])
        saver.close()
    assert names[0] == names[1]
