"""What a rank declares of itself: how long its next beat may take, and for how long the training stood still."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.configs.heartbeat import Beat, Phase, read_beat
from relight.configs.protocol import ENV_RUN_DIR
from relight.configs.schema import HangConfig
from relight.workers.origin import origin
from relight.workers.pulse import Pulse


def pulse_in(folder: Path) -> Pulse:
    allowances = HangConfig(start_s=100.0, restore_s=200.0, evaluate_s=300.0, epoch_s=50.0)
    return Pulse(origin({ENV_RUN_DIR: str(folder)}), allowances)


def last_beat(folder: Path) -> Beat:
    beat = read_beat(folder, 0)
    assert beat is not None
    return beat


def test_it_beats_at_once_and_declares_what_a_start_may_take(tmp_path: Path) -> None:
    pulse_in(tmp_path)
    assert (last_beat(tmp_path).phase, last_beat(tmp_path).allowance_s) == (Phase.STARTING, 100.0)


@pytest.mark.parametrize(
    ("phase", "allowance_s"),
    [(Phase.RESTORING, 200.0), (Phase.EVALUATING, 300.0), (Phase.TRAINING, 0.0), (Phase.FINISHED, 0.0)],
)
def test_every_phase_declares_what_the_configuration_gives_it(tmp_path: Path, phase: Phase, allowance_s: float) -> None:
    pulse_in(tmp_path).beat(phase)
    assert (last_beat(tmp_path).phase, last_beat(tmp_path).allowance_s) == (phase, allowance_s)


def test_what_is_expected_holds_until_the_next_beat(tmp_path: Path) -> None:
    pulse = pulse_in(tmp_path)
    pulse.beat(Phase.TRAINING, step=3)
    pulse.expect(40.0)
    assert last_beat(tmp_path).step == 3
    assert last_beat(tmp_path).allowance_s == pytest.approx(40.0)
    pulse.beat(Phase.TRAINING, step=4)
    assert last_beat(tmp_path).allowance_s == 0.0


def test_what_is_expected_takes_nothing_away_from_what_was_allowed(tmp_path: Path) -> None:
    pulse = pulse_in(tmp_path)
    pulse.beat(Phase.EVALUATING)
    pulse.expect(40.0)
    assert last_beat(tmp_path).allowance_s == pytest.approx(300.0, abs=5.0)
    pulse.expect(1000.0)
    assert last_beat(tmp_path).phase is Phase.EVALUATING
    assert last_beat(tmp_path).allowance_s == pytest.approx(1000.0)


def test_stalls_add_up_over_a_life(tmp_path: Path) -> None:
    pulse = pulse_in(tmp_path)
    for _ in range(3):
        pulse.stalled(0.5)
        pulse.beat(Phase.TRAINING)
    assert last_beat(tmp_path).stalled_ns == 1_500_000_000


def test_without_a_launcher_it_is_silent(tmp_path: Path) -> None:
    pulse = Pulse(origin({}))
    pulse.beat(Phase.TRAINING)
    pulse.expect(1.0)
    assert list(tmp_path.iterdir()) == []
