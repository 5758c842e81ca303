"""A run that was killed again and again ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import signal
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run, started
from relight.tests.e2e.tiny_task import SAMPLES
from relight.tests.waiting import wait_until

STEPS = 64
EPOCH_STEPS = 16


def assert_the_same(run: Run, undisturbed: Run) -> None:
    assert run.digest() == undisturbed.digest()
    # A rank that is killed between the save of a step and its line in the trace does not do the step once more.
    unsaid = {int(step) for step in re.findall(r"resumed from step (\d+)", run.text)}
    for rank in range(run.ranks):
        losses, wanted = run.losses(rank), undisturbed.losses(rank)
        assert losses == {step: loss for step, loss in wanted.items() if step in losses}
        assert wanted.keys() - losses.keys() <= unsaid
    assert run.samples() == undisturbed.samples()


def test_an_undisturbed_run_sees_every_sample_of_an_epoch_exactly_once(undisturbed: Run) -> None:
    samples = undisturbed.samples()
    assert sorted(samples) == list(range(1, STEPS + 1))
    for first in range(1, STEPS, EPOCH_STEPS):
        seen = [sample for step in range(first, first + EPOCH_STEPS) for sample in samples[step]]
        assert sorted(seen) == list(range(SAMPLES))


def test_workers_killed_in_mid_epoch_on_rank_0_and_on_another_change_nothing(
    undisturbed: Run, folder: Path, dice: random.Random
) -> None:
    kills = [[0, dice.randrange(11, 30)], [1, dice.randrange(31, 50)], [dice.randrange(2), dice.randrange(51, STEPS)]]
    run = Run(folder, f"task_args.kill={kills}")
    assert run.finish() == 0, run.text
    assert all((folder / f"killed-{rank}-{step}").exists() for rank, step in kills)
    assert run.text.count("was killed by SIGKILL") == len(kills), run.text
    assert "resumed from step" in run.text
    assert_the_same(run, undisturbed)


# The state is 50 MB, so that a save takes long enough to be hit in its middle.
WIDE = ("task_args.width=200000", "train.steps=24", "checkpoint.every=4", "data.num_workers=0")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The wide run, undisturbed."""
    run = Run(tmp_path_factory.mktemp("wide"), *WIDE)
    assert run.finish() == 0, run.text
    return run


def test_a_save_that_was_staged_outlives_its_worker(wide: Run, folder: Path, dice: random.Random) -> None:
    run = Run(folder, *WIDE)
    with started(run) as process:
        unfinished = wait_until(lambda: _unfinished(run, newer_than=8), deadline_s=120, what="a save under way")
        os.kill(run.pid(dice.randrange(2)), signal.SIGKILL)
        assert process.wait(240) == 0, run.text
    resumed_at = [int(step) for step in re.findall(r"resumed from step (\d+)", run.text)]
    assert resumed_at[0] >= int(unfinished.name.split("-")[1]), run.text
    assert_the_same(run, wide)


def test_a_host_that_vanishes_in_mid_save_leaves_no_trace(wide: Run, folder: Path) -> None:
    run = Run(folder, *WIDE)
    with started(run) as process:
        unfinished = wait_until(lambda: _unfinished(run, newer_than=8), deadline_s=120, what="a save under way")
        for pid in [*run.persisters(), process.pid]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        wait_until(run.is_over, deadline_s=20, what="the end of the launcher's workers")
    assert not list(unfinished.glob("manifest.json")), "the kill came too late to hit the save"
    assert run.finish() == 0, run.text
    assert_the_same(run, wide)
    assert not unfinished.exists(), "what the crashed save left was not swept"


def _unfinished(run: Run, newer_than: int) -> Path | None:
    """The folder of a save that has begun to write and has not committed."""
    for attempt in sorted((run.url / "checkpoints").glob("step-*"), reverse=True):
        step = int(attempt.name.split("-")[1])
        if step > newer_than and any(attempt.iterdir()) and not (attempt / "manifest.json").exists():
            return attempt
    return None


def test_a_killed_launcher_started_again_changes_nothing(undisturbed: Run, folder: Path, dice: random.Random) -> None:
    run = Run(folder)
    for step in sorted(dice.sample(range(12, STEPS - 4), 2)):
        with started(run) as process:
            run.await_step(step)
            process.kill()
            process.wait()
            wait_until(run.is_over, deadline_s=20, what="the end of the launcher's workers")
    assert run.finish() == 0, run.text
    assert_the_same(run, undisturbed)


def test_20_restarts_in_a_row_come_back_20_times(undisturbed: Run, folder: Path, dice: random.Random) -> None:
    steps = dice.sample(range(2, STEPS), 20)
    kills = [[dice.randrange(2), step] for step in steps]
    run = Run(folder, f"task_args.kill={kills}", "checkpoint.every=1")
    assert run.finish() == 0, run.text
    killed = sum((folder / f"killed-{rank}-{step}").exists() for rank, step in kills)
    print(f"{killed} workers killed, {run.text.count('resumed from step')} times resumed")
    assert killed == 20
    assert_the_same(run, undisturbed)
