"""A notice becomes a checkpoint: SIGTERM ends in a committed step and exit code 75, and the next start goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from relight.tests.e2e.running import Run, started
from relight.tests.orchestrator.metadata_servers import Gcp, served


def tell_the_launcher(run: Run, launcher: subprocess.Popen[bytes], dice: random.Random) -> None:
    launcher.send_signal(signal.SIGTERM)


def tell_the_launcher_again_and_again(run: Run, launcher: subprocess.Popen[bytes], dice: random.Random) -> None:
    """What comes while the save is under way does not break it."""
    for _ in range(3):
        launcher.send_signal(signal.SIGTERM)


def tell_one_rank(run: Run, launcher: subprocess.Popen[bytes], dice: random.Random) -> None:
    os.kill(run.pid(dice.randrange(run.ranks)), signal.SIGTERM)


@pytest.mark.parametrize("tell", [tell_the_launcher_again_and_again, tell_one_rank])
def test_sigterm_is_answered_with_a_committed_checkpoint_and_exit_code_75(
    undisturbed: Run, folder: Path, dice: random.Random, tell: Callable[..., None]
) -> None:
    run = Run(folder, "checkpoint.every=1000")
    when = dice.randrange(5, 40)
    with started(run) as launcher:
        run.await_step(when)
        tell(run, launcher, dice)
        assert launcher.wait(60) == 75, run.text
    (saved,) = run.committed()
    # At the step boundary: the last step that any rank finished is the one that was saved.
    assert saved["step"] == run.steps_done(0) == run.steps_done(1)
    assert "Traceback" not in run.text
    assert run.finish() == 0, run.text
    assert f"resumed from step {saved['step']} " in run.text
    assert run.digest() == undisturbed.digest()
    assert run.samples() == undisturbed.samples()


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(2, id="2 times"),
        pytest.param(50, id="50 times", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_preempted_again_and_again_with_loader_workers_every_life_ends_in_a_commit_and_loses_no_step(
    folder: Path, dice: random.Random, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    deadline_s = 60
    run = Run(
        folder, "data.num_workers=4", "train.epochs=100000", "checkpoint.every=100000",
        f"preemption.deadline_s={deadline_s}",
    )  # fmt: skip
    seconds = []
    for _ in range(times):
        before = run.steps_done()
        with started(run) as launcher:
            run.await_step(before + dice.randrange(3, 30))
            dice.choice([tell_the_launcher, tell_one_rank])(run, launcher, dice)
            told_at = time.monotonic()
            assert launcher.wait(60) == 75, run.text
        seconds.append(time.monotonic() - told_at)
        saved = run.committed()[0]["step"]
        assert saved == run.steps_done(0) == run.steps_done(1), "a step that was done is not in the checkpoint"
    assert "killed after" not in run.text, "a deadline was missed"
    run.losses(0)  # No step was done twice with another loss.
    with capsys.disabled():
        print(
            f"\n{times} preemptions: {times} commits, exit code 75 each time, 0 steps lost;\n"
            f"from the notice to the exit {median(seconds):.2f} s, at the most {max(seconds):.2f} s of {deadline_s} s"
        )


def test_a_clouds_notice_ends_in_a_committed_checkpoint_and_says_where_it_came_from(folder: Path) -> None:
    metadata = Gcp()
    with served(metadata) as server:
        run = Run(folder, "train.epochs=400", "preemption.watch=gcp", f"preemption.metadata_url={server}")
        with started(run) as launcher:
            run.await_step(5)
            metadata.take_away()
            assert launcher.wait(60) == 75, run.text
    assert "gcp: this VM is being preempted" in run.text
    assert "the workers have 25 s to save and end" in run.text, "Google gives 30 s"
    assert run.committed()[0]["step"] == run.steps_done()
