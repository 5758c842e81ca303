"""What can be seen of a launcher from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.configs.heartbeat import Beat, Heartbeat, Phase, read_beat
from relight.orchestrator.chaos.running import RunningLauncher


def beat(launcher: RunningLauncher, attempt: int, rank: int, step: int, resumed: int) -> None:
    directory = launcher.scratch / f"attempt-{attempt}"
    directory.mkdir(exist_ok=True)
    with Heartbeat(directory, rank) as heart:
        heart.beat(Phase.TRAINING, step=step, committed_step=-1, resumed_step=resumed)


def test_it_trains_when_every_rank_has_done_a_step_of_its_own(tmp_path: Path) -> None:
    launcher = RunningLauncher(1, None, tmp_path)
    assert not launcher.trains()
    beat(launcher, 2, 0, step=11, resumed=10)
    beat(launcher, 2, 1, step=10, resumed=10)
    assert not launcher.trains()
    beat(launcher, 2, 1, step=11, resumed=10)
    assert launcher.trains()
    assert launcher.trains(after_attempt=1)
    assert not launcher.trains(after_attempt=2)


def test_an_attempt_that_begins_meanwhile_is_not_taken_for_the_one_that_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = RunningLauncher(1, None, tmp_path)
    beat(launcher, 1, 0, step=14, resumed=-1)

    def read_and_begin_the_next(directory: Path, rank: int) -> Beat | None:
        (tmp_path / "attempt-2").mkdir(exist_ok=True)
        return read_beat(directory, rank)

    monkeypatch.setattr("relight.orchestrator.chaos.running.read_beat", read_and_begin_the_next)
    assert not launcher.trains(after_attempt=1)
