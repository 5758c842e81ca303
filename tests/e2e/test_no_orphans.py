"""The launcher is SIGKILLed, at any moment: nothing of it lives on, and the next one cleans up after it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

from relight.orchestrator.chaos.running import RunningLauncher, running_launchers
from relight.orchestrator.scratch import SHARED_MEMORY
from relight.tests.e2e.leftovers import is_persister, leftovers
from relight.tests.e2e.running import Run, started
from relight.tests.waiting import wait_until

GONE_S: Final = 5.0
MOMENTS: Final = ("the launcher is there", "a worker is born", "a step is done", "it trains")


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(2, id="2 times"),
        pytest.param(20, id="20 times", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_after_a_sigkill_at_any_moment_nothing_of_the_launcher_lives_and_the_next_one_cleans_up(
    folder: Path, dice: random.Random, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(folder, "train.epochs=100000", "data.num_workers=2", "checkpoint.every=3")
    gone_s, moments = [], dice.choices(MOMENTS, k=times)
    remains: list[Path] = []
    for moment in moments:
        with started(run) as process:
            launcher = await_moment(run, process, moment, dice)
            assert not any(path.exists() for path in remains), "a dead launcher's memory is still there"
            remains.append(launcher.scratch)
            process.send_signal(signal.SIGKILL)
            killed_at = time.monotonic()
            wait_until(lambda: not orphans(run), deadline_s=GONE_S, what="everything but the persisters to be gone")
            gone_s.append(time.monotonic() - killed_at)
        wait_until(lambda: not leftovers(run), deadline_s=60, what="the persisters to have finished")
    with started(run) as process:
        await_moment(run, process, "a step is done", dice)
        assert not any(path.exists() for path in remains)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75, run.text
    assert not leftovers(run)
    with capsys.disabled():
        print(
            f"\n{times} launchers killed: 0 live descendants after {max(gone_s):.2f} s at most (goal: {GONE_S:g} s), "
            f"{SHARED_MEMORY} clean at each next start"
        )


def await_moment(run: Run, process: subprocess.Popen[bytes], moment: str, dice: random.Random) -> RunningLauncher:
    def launcher() -> RunningLauncher | None:
        assert process.poll() is None, run.text
        return next((each for each in running_launchers(run.address) if each.pid == process.pid), None)

    found = wait_until(launcher, deadline_s=60, what="the launcher")
    if moment == "a worker is born":
        wait_until(found.beats, deadline_s=60, what=moment)
    elif moment != "the launcher is there":
        wait_until(found.trains, deadline_s=120, what=moment)
    if moment == "it trains":
        enough = run.steps_done() + dice.randrange(1, 40)
        run.await_step(enough)
    return found


def orphans(run: Run) -> list[str]:
    return [command for command in leftovers(run).values() if not is_persister(command)]
