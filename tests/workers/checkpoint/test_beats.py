"""What the launcher is told over a life: no silence that the loop itself knows to be long is left undeclared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from relight.configs.heartbeat import Beat, Heartbeat, Phase, read_beat
from relight.configs.protocol import ENV_RUN_DIR
from relight.configs.schema import HangConfig
from relight.tests.workers.checkpoint.jobs import Job
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.signals import StopFlag

START, RESTORE, EPOCH, EVALUATE, SAVE = 1800, 1800, 300, 3600, 360


@pytest.fixture
def beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Beat]:
    """All that are beaten."""
    monkeypatch.setenv(ENV_RUN_DIR, str(tmp_path))
    beaten: list[Beat] = []
    plain = Heartbeat.beat

    def beat(self: Heartbeat, *args: Any, **facts: Any) -> None:
        plain(self, *args, **facts)
        found = read_beat(tmp_path, 0)
        assert found is not None
        beaten.append(found)

    monkeypatch.setattr(Heartbeat, "beat", beat)
    return beaten


def phases(beats: list[Beat]) -> list[tuple[Phase, int, int]]:
    """Phase, step, allowance; what follows without a change left out."""
    told = [(beat.phase, beat.step, round(beat.allowance_s)) for beat in beats]
    return [each for number, each in enumerate(told) if number == 0 or told[number - 1] != each]


def test_the_defaults_are_the_configurations() -> None:
    hang = HangConfig()
    assert (hang.start_s, hang.restore_s, hang.epoch_s, hang.evaluate_s) == (START, RESTORE, EPOCH, EVALUATE)


def test_a_life_from_its_start_to_its_end(tmp_path: Path, beats: list[Beat]) -> None:
    Job(tmp_path / "run", every=4).train()
    told = phases(beats)
    assert told[:5] == [
        (Phase.STARTING, -1, 0),  # The file is made.
        (Phase.STARTING, -1, START),
        (Phase.RESTORING, -1, RESTORE),
        (Phase.TRAINING, 0, 0),
        (Phase.TRAINING, 0, START),  # The first step, whatever epoch it begins.
    ]
    assert (Phase.TRAINING, 1, 0) in told, "a step declares nothing"
    assert told[told.index((Phase.SAVING, 4, SAVE)) + 1] == (Phase.TRAINING, 4, 0)
    end = told.index((Phase.TRAINING, 5, EVALUATE))  # An evaluation may follow.
    assert told[end + 1] == (Phase.TRAINING, 5, 0)
    assert told[end + 2] == (Phase.TRAINING, 5, EPOCH), "the second epoch begins"
    assert told[-2:] == [(Phase.SAVING, 10, SAVE), (Phase.FINISHED, 10, 0)]
    stalls = [beat.stalled_ns for beat in beats]
    assert stalls == sorted(stalls)
    assert stalls[-1] > 0


def test_who_was_told_to_stop_has_finished(tmp_path: Path, beats: list[Beat]) -> None:
    job = Job(tmp_path / "run", every=1000)
    job.stop._noticed = True  # type: ignore[assignment]
    job.train()
    assert beats[-1].phase is Phase.FINISHED


def test_a_loop_of_ones_own_says_what_takes_long(tmp_path: Path, beats: list[Beat]) -> None:
    checkpointer = Checkpointer(str(tmp_path / "run"), model=nn.Linear(1, 1), stop=StopFlag())
    checkpointer.expect(7200.0)  # A download before anything is restored.
    assert phases(beats)[-1] == (Phase.STARTING, -1, 7200)
    checkpointer.restore()
    checkpointer.step()
    assert phases(beats)[-1] == (Phase.TRAINING, 1, 0)
    checkpointer.evaluating()
    assert phases(beats)[-1] == (Phase.EVALUATING, 1, EVALUATE)
    checkpointer.step()
    checkpointer.expect(500.0)
    assert phases(beats)[-1] == (Phase.TRAINING, 2, 500)
    checkpointer.step()
    assert phases(beats)[-1] == (Phase.TRAINING, 3, 0)
    checkpointer.finish()


def test_a_loop_whose_epochs_cannot_be_seen_is_allowed_more_until_it_speaks(tmp_path: Path, beats: list[Beat]) -> None:
    checkpointer = Checkpointer(str(tmp_path / "run"), model=nn.Linear(1, 1), stop=StopFlag())
    checkpointer.restore()
    checkpointer.step()
    assert phases(beats)[-1] == (Phase.TRAINING, 1, EPOCH)
    checkpointer.evaluating()
    checkpointer.step()
    assert phases(beats)[-1] == (Phase.TRAINING, 2, 0)
    checkpointer.finish()
