"""A worker that crashes on a living host goes on from that host's memory, and copying the state changes nothing."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run
from relight.tests.e2e.test_comes_back_exactly import STEPS, assert_the_same

NEVER = "checkpoint.every=1000"


def _resumed_at(run: Run) -> list[tuple[int, bool]]:
    """Each resume: from which step, and whether from memory."""
    lines = re.findall(r"resumed from step (\d+) \(.*?(, in memory)?\)", run.text)
    return [(int(step), bool(memory)) for step, memory in lines]


def test_a_killed_worker_loses_at_most_one_step(undisturbed: Run, folder: Path, dice: random.Random) -> None:
    kills = [[dice.randrange(2), step] for step in sorted(dice.sample(range(4, STEPS), 7))]
    run = Run(folder, NEVER, "checkpoint.memory_every=1", f"task_args.kill={kills}", "task_args.await_copies=true")
    assert run.finish() == 0, run.text
    resumed = _resumed_at(run)
    print("steps lost:", [step - 1 - at for (_, step), (at, _) in zip(kills, resumed, strict=True)])
    for (_, step), (at, from_memory) in zip(kills, resumed, strict=True):
        assert from_memory, run.text
        assert at == step - 1  # All that was finished. Had the copy not been whole yet, it would have been one less.
    assert_the_same(run, undisturbed)


def test_copies_are_made_by_themselves_as_often_as_they_are_cheap(undisturbed: Run, folder: Path) -> None:
    run = Run(folder, NEVER, f"task_args.kill={[[0, STEPS - 4]]}")
    assert run.finish() == 0, run.text
    [(at, from_memory)] = _resumed_at(run)
    assert from_memory
    assert at >= 3
    assert_the_same(run, undisturbed)


def test_without_copies_a_killed_worker_goes_on_from_storage(undisturbed: Run, folder: Path) -> None:
    run = Run(folder, NEVER, "checkpoint.memory_every=never", "task_args.kill=[[1, 9]]")
    assert run.finish() == 0, run.text
    assert _resumed_at(run) == []
    assert_the_same(run, undisturbed)


@pytest.mark.parametrize(
    "choices",
    [
        "overlap=true every=1 when_busy=queue memory_every=1",
        "when_busy=wait every=2 arenas=1",
        "every=auto",
        pytest.param("overlap=true every=3", marks=pytest.mark.soak),
        pytest.param("when_busy=skip every=1 arenas=3", marks=pytest.mark.soak),
    ],
)
def test_however_it_is_saved_the_run_ends_the_same(undisturbed: Run, folder: Path, choices: str) -> None:
    run = Run(folder, *(f"checkpoint.{choice}" for choice in choices.split()), f"task_args.kill={[[1, 40]]}")
    assert run.finish() == 0, run.text
    assert len(_resumed_at(run)) == 1
    assert_the_same(run, undisturbed)
