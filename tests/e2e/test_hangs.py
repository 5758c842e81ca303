"""A rank that hangs is noticed, named and started again with the others; what merely takes long is left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from relight.configs.heartbeat import Phase
from relight.configs.protocol import ExitCode
from relight.tests.e2e.hanging_task import STEPS_OF_AN_EPOCH
from relight.tests.e2e.running import Run, started
from relight.tests.e2e.test_persister_outlives import persisters
from relight.tests.e2e.watched import Watched
from relight.tests.waiting import wait_until

KINDS: Final = ("stop", "loop", "extra_collective", "asleep")
SETTINGS: Final = ("task=hanging_task:Hanging",)


@dataclass(frozen=True)
class Planted:
    rank: int
    step: int
    how: str

    def moment(self, run: Run) -> float:
        """When it happened, by the wall clock."""
        return (run.folder / f"hung-{self.rank}-{self.step}").stat().st_mtime


def plant(dice: random.Random, kinds: tuple[str, ...]) -> list[Planted]:
    """One in each epoch, never in its first steps: those are waited for longer."""
    return [
        Planted(dice.randrange(2), STEPS_OF_AN_EPOCH * epoch + dice.randrange(6, STEPS_OF_AN_EPOCH), how)
        for epoch, how in enumerate(kinds)
    ]


def hangs_told(run: Run) -> list[dict[str, Any]]:
    """From the run's journal."""
    lines = [line for path in sorted(run.url.glob("journal/*.jsonl")) for line in path.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["event"] == "hang"]


@dataclass(frozen=True)
class Form:
    floor_s: float
    pace_s: float
    rounds: int


SOAK: Final = (pytest.mark.soak, pytest.mark.timeout(1800))


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(Form(2.0, 0.02, 1), id="floor 2 s"),
        pytest.param(Form(5.0, 0.02, 3), id="floor 5 s", marks=SOAK),
        pytest.param(Form(5.0, 2.0, 1), id="steps of 2 s", marks=SOAK),
    ],
)
def test_a_hang_is_noticed_the_right_rank_named_and_the_run_ends_as_if_nothing_had_happened(
    undisturbed: Run, folder: Path, dice: random.Random, capsys: pytest.CaptureFixture[str], form: Form
) -> None:
    for number in range(form.rounds):
        planted = plant(dice, tuple(dice.sample(KINDS, len(KINDS))))
        run = hanging(folder / str(number), planted, form)
        assert run.finish(timeout_s=1200) == ExitCode.FINISHED, run.text
        told = hangs_told(run)
        with capsys.disabled():
            for each, hung in zip(planted, told, strict=False):
                print(
                    f"{each.how}, rank {each.rank}, step {each.step}: noticed after "
                    f"{hung['at'] - each.moment(run):.2f} s, silent for {hung['waited_s']:.2f} s; "
                    f"the limit {hung['limit_s']:.2f} s; named: rank {hung['rank']}, {hung['why']}"
                )
        assert [(hung["rank"], hung["step"]) for hung in told] == [(each.rank, each.step - 1) for each in planted]
        assert run.text.count("restarting") == len(planted)
        assert_told_well(run, planted, told)
        assert run.digest() == undisturbed.digest()
        assert run.losses(0) == undisturbed.losses(0)


def hanging(folder: Path, planted: list[Planted], form: Form) -> Run:
    hang = [[each.rank, each.step, each.how] for each in planted]
    arguments = json.dumps({"notes": str(folder), "hang": hang, "pace_s": form.pace_s})
    return Run(folder, *SETTINGS, f"task_args={arguments}", f"hang.floor_s={form.floor_s}")


def assert_told_well(run: Run, planted: list[Planted], told: list[dict[str, Any]]) -> None:
    for each, hung in zip(planted, told, strict=True):
        assert f"relight: rank {each.rank} hangs after step {each.step - 1}: silent for " in run.text
        if each.how in ("loop", "asleep"):
            assert f"in {each.how}" in run.text, "the stack of the rank that hangs"
        if each.how == "stop":
            assert hung["why"] == "its process is stopped (by a SIGSTOP; state T)"
        if each.how == "extra_collective":
            assert "in extra_collective" in hung["why"]


@pytest.mark.parametrize(
    ("floor_s", "slow_s"),
    [
        pytest.param(2.0, 3.5, id="floor 2 s"),
        pytest.param(5.0, 20.0, id="floor 5 s", marks=SOAK),
    ],
)
def test_what_takes_long_is_no_hang(
    undisturbed: Run, folder: Path, capsys: pytest.CaptureFixture[str], floor_s: float, slow_s: float
) -> None:
    """The first step, an epoch's first one, an undeclared compilation, an evaluation, a save, a pause of everything."""
    slow = dict.fromkeys(("start", "epoch", "recompile", "evaluate"), slow_s)
    arguments = json.dumps({"notes": str(folder), "slow": slow, "pace_s": 0.05})
    run = Watched(folder, *SETTINGS, f"task_args={arguments}", f"hang.floor_s={floor_s}")
    with started(run) as launcher:
        run.await_step(2 * STEPS_OF_AN_EPOCH + 1)
        stop_everything(run, launcher.pid, slow_s)
        saving_s = stop_persisters(run, slow_s)
        assert launcher.wait(300) == ExitCode.FINISHED, run.text
    with capsys.disabled():
        print(f"the limit {floor_s:g} s; four times {slow_s:g} s of silence, and {saving_s:.1f} s in a save: no alarm")
    assert hangs_told(run) == []
    assert "hangs" not in run.text
    assert "restarting" not in run.text
    assert run.digest() == undisturbed.digest()


def stop_everything(run: Watched, launcher: int, seconds: float) -> None:
    """As a suspended machine does, which wakes up one process after the other."""
    processes = [launcher, *run.pids()]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    _let_pass(seconds)
    for pid in processes:
        os.kill(pid, signal.SIGCONT)


def stop_persisters(run: Watched, seconds: float) -> float:
    """Until a rank has waited so long in a save; the seconds that it did."""
    stopped = [each for pid in run.pids() for each in persisters(pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)

    def saving_s() -> float:
        beat = run.beat()
        return (time.monotonic_ns() - beat.at_ns) / 1e9 if beat.phase is Phase.SAVING else 0.0

    waited_s = wait_until(
        lambda: (waited := saving_s()) > seconds and waited, deadline_s=seconds + 60, what="a save that takes long"
    )
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    return float(waited_s)


def _let_pass(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, deadline_s=seconds + 60)
