"""A script with all that a resume could get wrong, killed anywhere: not one bit of its losses or state differs."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from relight.tests.e2e.dying import CALLS, Death, plan
from relight.tests.e2e.leftovers import leftovers
from relight.tests.e2e.running import HERE, Run, started
from relight.tests.waiting import wait_until

STEPS: Final = 60
SCRIPT: Final = HERE / "mortal_script.py"
RANKS: Final = min(2, torch.cuda.device_count() or 2)
A_STEP_S: Final = 0.05
"""About: deaths that are timed come within so much time of their step's beginning."""


class Script(Run):
    """The script in a folder of its own, which is also where it runs."""

    def __init__(self, folder: Path, deaths: list[Death] | None = None) -> None:
        super().__init__(folder, ranks=RANKS)
        self.deaths = deaths or []
        if deaths is not None:
            plan(folder, deaths)

    def start(self, *overrides: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "relight", "run", "--nproc-per-node", str(RANKS), "--", str(SCRIPT)]
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [*command, str(self.folder)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def finish_by_all_means(self) -> None:
        """The launcher is started again whenever its host has died."""
        for _ in range(1 + sum(death.victims == "host" for death in self.deaths)):
            with started(self) as process:
                code = process.wait(900)
            if code != -signal.SIGKILL:
                break
            wait_until(lambda: not leftovers(self), deadline_s=20, what="the end of the launcher's workers")
        assert code == 0, self.text

    def final(self, rank: int) -> Any:
        return json.loads((self.folder / f"final-{rank}.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Script:
    """The undisturbed run."""
    run = Script(tmp_path_factory.mktemp("whole"))
    assert run.finish() == 0, run.text
    return run


def assert_the_same(run: Script, whole: Script) -> None:
    # A rank that dies between the save of a step and its line in the trace does not do the step once more.
    unsaid = {int(step) for step in re.findall(r"resumed from step (\d+)", run.text)}
    for rank in range(RANKS):
        trace, wanted = run.trace(rank), whole.trace(rank)
        assert trace == {step: line for step, line in wanted.items() if step in trace}
        assert wanted.keys() - trace.keys() <= unsaid
        assert run.final(rank) == whole.final(rank)
    assert run.digest() == whole.digest()


def test_the_undisturbed_run_does_all_that_could_go_wrong(whole: Script) -> None:
    """Else what is shown below would say little."""
    trace = whole.trace(0)
    assert list(trace) == list(range(1, STEPS + 1))
    scales = [line["scale"] for line in trace.values()]
    assert any(after > before for before, after in itertools.pairwise(scales)), "no scale grew"
    assert any(after < before for before, after in itertools.pairwise(scales)), "no gradient overflowed"
    assert whole.final(0)["model"] != whole.final(0)["average"]
    first, last = 0, RANKS - 1
    assert first == last or whole.final(first)["next draws"] != whole.final(last)["next draws"]
    assert first == last or whole.trace(first)[7]["loss"] != whole.trace(last)[7]["loss"]


class Dice:
    """Draws deaths that can happen, from what the undisturbed run has counted."""

    def __init__(self, dice: random.Random, whole: Script) -> None:
        self._dice = dice
        self._calls = json.loads((whole.folder / CALLS).read_text())

    def death(self, step: int, place: str, victims: str) -> Death:
        """`place`: one in the script, of whose calls some, or all, are made; or "anytime"."""
        rank, fraction = self._dice.randrange(RANKS), self._dice.uniform(0, 1.1)
        if place == "anytime":
            return Death(rank, step, place, victims, seconds=0.001 + fraction * A_STEP_S)
        if fraction > 1:
            return self.death_behind(step, place, victims)
        return Death(rank, step, place, victims, calls=int(fraction * self._calls[str(step)][place]))

    def death_behind(self, step: int, place: str, victims: str) -> Death:
        """When all of its calls are made: a save has been staged and handed over, and cannot have been committed."""
        return Death(self._dice.randrange(RANKS), step, place, victims, calls=sys.maxsize)

    def any_death(self, step: int) -> Death:
        place = self._dice.choice(("step", "boundary", "boundary", "anytime"))
        victims = self._dice.choice(("worker", "worker and persister", "host"))
        return self.death(step, place, victims)


def report(run: Script) -> str:
    """A line for each death: where, and from where it went on."""
    _, *starts = re.findall(r"(?:resumed|starting) from step (\d+)(?: \(epoch \d+, \S+?(, in memory)?\))?", run.text)
    return "\n".join(
        f"  {death}: went on from {step}{memory}" for death, (step, memory) in zip(run.deaths, starts, strict=False)
    )


@pytest.mark.timeout(600)
def test_killed_in_a_step_in_a_save_and_between_save_and_commit_it_ends_as_if_nothing_had_happened(
    whole: Script, tmp_path: Path, dice: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = Dice(dice, whole)
    run = Script(
        tmp_path / "killed",
        [
            draw.death(13, "step", "worker"),
            draw.death(25, "boundary", "worker and persister"),
            draw.death(36, "anytime", "worker"),
            draw.death_behind(45, "boundary", "host"),
        ],
    )
    run.finish_by_all_means()
    with capsys.disabled():
        print(report(run))
    assert all((run.folder / death.mark).exists() for death in run.deaths)
    assert_the_same(run, whole)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_50_random_deaths_change_nothing(
    whole: Script, tmp_path: Path, dice: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, died = Dice(dice, whole), 0
    for number in range(10):
        steps = [dice.randrange(first, first + 9) for first in range(3, STEPS - 10, 10)]
        # Of two deaths in neighbouring steps the first could prevent the second one.
        run = Script(tmp_path / f"{number}", [draw.any_death(step) for step in steps])
        run.finish_by_all_means()
        died += sum((run.folder / death.mark).exists() for death in run.deaths)
        with capsys.disabled():
            print(report(run))
        assert_the_same(run, whole)
    with capsys.disabled():
        print(
            f"{died} deaths in 10 runs: losses, scales, final state and next random numbers are the same, bit for bit"
        )
    assert died >= 50
