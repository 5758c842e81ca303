"""A notice becomes a checkpoint: SIGTERM ends in a committed step and exit code 75, and the next start goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run, started


def tell_the_launcher(run: Run, launcher: subprocess.Popen[bytes], dice: random.Random) -> None:
    launcher.send_signal(signal.SIGTERM)


def tell_one_rank(run: Run, launcher: subprocess.Popen[bytes], dice: random.Random) -> None:
    os.kill(run.pid(dice.randrange(run.ranks)), signal.SIGTERM)


@pytest.mark.parametrize("tell", [tell_the_launcher, tell_one_rank])
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


def test_a_second_notice_during_the_save_does_not_break_it(folder: Path) -> None:
    run = Run(folder, "checkpoint.every=1000", "train.epochs=400")
    with started(run) as launcher:
        run.await_step(5)
        for _ in range(3):
            launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(60) == 75, run.text
    assert len(run.committed()) == 1
