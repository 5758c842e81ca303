"""A run that is broken again and again, in every way there is, ends with the bits of one that was left alone."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator.chaos.playing import Episode, Plan, play
from relight.orchestrator.chaos.running import running_launchers
from relight.tests.e2e.leftovers import leftovers
from relight.tests.e2e.running import Run, started
from relight.tests.e2e.watched import Watched
from relight.tests.waiting import wait_until

ALL: Final = ("kill", "hang", "kill-persister", "kill-launcher", "preempt", "corrupt")
SETTINGS: Final = (
    "task=paced_task:Paced",
    "data.num_workers=1",
    "train.epochs=100000",  # It ends when it is told to.
    "checkpoint.every=5",
    "hang.floor_s=1.0",
    "restart.max_failures=1000",
)


class Operator:
    """Whoever starts the run again when its launcher has ended: a scheduler, a loop in a shell."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._over = threading.Event()
        self.codes: list[int] = []
        self._process = run.start()
        self._thread = threading.Thread(target=self._keep_running)
        self._thread.start()

    def _keep_running(self) -> None:
        while True:
            self.codes.append(self._process.wait())
            if self._over.is_set() or self.codes[-1] not in (ExitCode.PREEMPTED, -signal.SIGKILL):
                return
            self._process = self._run.start()

    def end(self) -> int:
        """Told to stop: the exit code."""
        self._over.set()
        self._process.send_signal(signal.SIGTERM)
        self._thread.join(120)
        return self.codes[-1]


@contextmanager
def operated(run: Run) -> Iterator[Operator]:
    operator = Operator(run)
    try:
        yield operator
    finally:
        operator.end()


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(len(ALL), id="each fault"),
        pytest.param(200, id="200 faults", marks=[pytest.mark.soak, pytest.mark.timeout(7200)]),
    ],
)
def test_random_faults_change_nothing_and_leave_nothing(
    folder: Path, dice: random.Random, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Watched(folder / "broken", *SETTINGS)
    episodes: list[Episode] = []
    began = time.monotonic()
    with operated(run) as operator:
        wait_until(lambda: run.steps_done() > 6, deadline_s=120, what="a first checkpoint")
        # Each kind once at least, in any order.
        kinds = [*dice.sample(ALL, len(ALL)), *dice.choices(ALL, k=times - len(ALL))]
        for kind in kinds:
            (episode,) = play(str(run.url), Plan((kind,), every_s=dice.uniform(0, 1.5)), dice)
            assert episode.back_s is not None, f"{episode.what}: the run did not come back\n{run.text}"
            episodes.append(episode)
            wait_until(lambda: any(each.trains() for each in running_launchers(run.address)), deadline_s=120)
        assert operator.end() == ExitCode.PREEMPTED, run.text
    wall_s = time.monotonic() - began
    last = run.committed()[0]["step"]
    wait_until(lambda: not leftovers(run), deadline_s=30, what="all that belongs to the run to be gone")

    account = json.loads(run.relight("status", "--json").stdout)
    assert sum(account["seconds"].values()) == pytest.approx(account["wall_s"], rel=0.01)
    assert account["wall_s"] == pytest.approx(wall_s, rel=0.01, abs=1.5), "from outside"

    reference = Watched(folder / "undisturbed", *SETTINGS)
    reference.finish_at(last)
    assert run.digest() == reference.digest()
    for rank in range(run.ranks):
        assert run.losses(rank) == reference.losses(rank)
    with capsys.disabled():
        print(f"\n{times} faults over {last} steps, the digest is that of the undisturbed run, nothing is left behind:")
        print(f"{wall_s:.1f} s from outside, {account['wall_s']:.1f} s booked: {account['seconds']}")
        for kind, count in Counter(each.fault for each in episodes).items():
            back = sorted(each.back_s for each in episodes if each.fault == kind and each.back_s is not None)
            print(f"  {kind:<15} {count:>3}, back after {median(back):.2f} s (median), {back[-1]:.2f} s at most")


def test_the_command_breaks_a_running_job_and_says_how_long_it_took_to_come_back(folder: Path) -> None:
    run = Run(folder, *SETTINGS)
    with started(run) as launcher:
        wait_until(lambda: running_launchers(run.address), deadline_s=120)  # That it trains is waited for.
        options = ["--url", run.address, "--every=0", "--rank=1", "--json"]
        command = [sys.executable, "-m", "relight", "chaos", "kill", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(60) == ExitCode.PREEMPTED
    assert done.returncode == 0, done.stderr
    (episode,) = json.loads(done.stdout)["episodes"]
    assert episode["what"] == "SIGKILL to rank 1"
    assert episode["back_s"] > 0
    assert re.search(r"rank 1 on \S+ was killed by SIGKILL", run.text)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["melt"], "melt is not a fault; there are kill, "),
        (["kill", "--url=nothing/here"], "no job of "),
    ],
)
def test_what_cannot_be_broken_is_refused_in_one_line(folder: Path, arguments: list[str], complaint: str) -> None:
    command = [sys.executable, "-m", "relight", "chaos", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)
    assert done.returncode == ExitCode.USAGE
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
