"""Starts the examples as their readers do, each in a folder of its own, and kills their ranks from outside."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from relight.orchestrator.chaos.running import RunningLauncher, running_launchers
from relight.orchestrator.commands import inspection
from relight.tests.waiting import wait_until

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
RANKS: Final = 2


class Example:
    """One life after another of a script in a folder."""

    def __init__(self, folder: Path, script: str, *arguments: str, ranks: int = RANKS) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.output = folder / "output.txt"
        self._ranks = ["--nproc-per-node", str(ranks)]
        self._script = [str(EXAMPLES / script), *arguments]

    def under_torchrun(self) -> int:
        with self._started("torch.distributed.run", "--standalone", *self._ranks, *self._script) as process:
            return process.wait(200)

    @contextmanager
    def under_relight(self) -> Iterator[subprocess.Popen[bytes]]:
        with self._started("relight", "run", *self._ranks, "--", *self._script) as process:
            yield process

    def alone(self) -> int:
        with self.started_alone() as process:
            return process.wait(200)

    @contextmanager
    def started_alone(self) -> Iterator[subprocess.Popen[bytes]]:
        """`python script.py`."""
        with self._running([sys.executable, *self._script]) as process:
            yield process

    @contextmanager
    def _started(self, module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        with self._running([sys.executable, "-m", module, *arguments]) as process:
            yield process

    @contextmanager
    def _running(self, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Whatever happens, nothing of it is left behind."""
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def digest(self, url: str) -> str:
        return inspection.digest_checkpoint(str(self.folder / url), lambda passed_over: None)


def launcher_of(process: subprocess.Popen[bytes]) -> RunningLauncher:
    """Once it has started."""

    def find() -> RunningLauncher | None:
        return next((each for each in running_launchers() if each.pid == process.pid), None)

    return wait_until(find, deadline_s=60, what="the launcher")


def kill_at(launcher: RunningLauncher, rank: int, step: int, process: subprocess.Popen[bytes]) -> int:
    """SIGKILL for a rank once it has done that step. Returns the step it had done, when there is another attempt."""

    def reached() -> bool:
        assert process.poll() is None, "it has ended before"
        return (beat := launcher.beats().get(rank)) is not None and beat.step >= step

    wait_until(reached, deadline_s=120, what=f"step {step}")
    attempt, beat = launcher.attempt, launcher.beats()[rank]
    os.kill(beat.pid, signal.SIGKILL)
    wait_until(lambda: launcher.attempt > attempt or process.poll() is not None, deadline_s=60, what="a new attempt")
    return beat.step


def deaths(dice: random.Random, steps: int, count: int) -> list[tuple[int, int]]:
    """Who dies after which step, in order."""
    return [(dice.randrange(RANKS), step) for step in sorted(dice.sample(range(2, steps - 3), count))]
