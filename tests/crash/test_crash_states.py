"""Every crash point of a run's storage, tried: the disk is cut after each step, in every way that POSIX allows."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from relight.tests.crash.checking import Checker
from relight.tests.crash.lives import Committed, Life, whole_story
from relight.tests.crash.recording import Recorder
from relight.tests.storage.checkpoints import attempt_id

SEEDS = (0, 1, 2)
ENOUGH = 10
"""Problems to look at of one seed; one that is broken has thousands."""


def test_no_power_cut_loses_what_was_committed_or_lets_anything_else_be_used(
    in_memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    states = trees = recovered = steps = 0
    problems: list[str] = []
    for seed in SEEDS:
        recorder = Recorder(in_memory / f"life-{seed}")
        whole_story(recorder, seed)
        checker = Checker(in_memory, recover_every=11)
        found = itertools.islice(checker.run(recorder.base, recorder.ops, seed=seed), ENOUGH)
        problems += [f"seed {seed}, {problem}" for problem in found]
        states += checker.states
        trees += len(checker.trees)
        recovered += checker.recovered
        steps += len(recorder.ops)
    with capsys.disabled():
        print(
            f"\ncrash states: {steps} steps cut, {states} states, {trees} different, {recovered} lived on from, "
            f"{len(problems)} problems; seeds {SEEDS}; {time.monotonic() - began:.1f} s"
        )
    assert problems == []
    assert trees >= 2000


def test_a_rank_killed_at_any_step_of_the_first_save_takes_no_later_commit_with_it_in_a_power_cut(
    in_memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a killed process has made but not synced is built on by the next: it must be made durable by that one."""
    began = time.monotonic()
    checker = Checker(in_memory)
    problems, kills, finished = [], 0, False
    while not finished:
        recorder = Recorder(in_memory / f"life-{kills}")
        finished = _killed_then_saved(recorder, kills)
        promised = max(number for number, op in enumerate(recorder.ops) if isinstance(op.mark, Committed))
        found = checker.run(recorder.base, recorder.ops[: promised + 1], start=promised)
        problems += [f"killed at {kills}, {problem}" for problem in found]
        kills += 1
    with capsys.disabled():
        print(
            f"\nkill, then power cut: {kills} kills, {len(checker.trees)} different states, {len(problems)} problems; "
            f"{time.monotonic() - began:.1f} s"
        )
    assert problems == []
    assert kills >= 40


def _killed_then_saved(recorder: Recorder, kill_at: int) -> bool:
    """True when the first life came to its end because `kill_at` lies behind it."""
    first = Life(recorder, seed=kill_at)
    finished = first.start("one", kill_at=kill_at)
    if finished:
        finished = first.save(attempt_id(10, generation=2), kill_at=max(0, kill_at - first.gates))
    second = Life(recorder, seed=kill_at + 1000)
    second.start("two")
    second.save(attempt_id(20, generation=4))
    return finished


def test_a_launcher_killed_at_any_step_of_its_start_and_started_again_keeps_what_it_was_then_told(
    in_memory: Path,
) -> None:
    """The second start finds the first one's records there, visible but perhaps not durable."""
    checker, problems, kills, finished = Checker(in_memory), [], 0, False
    while not finished:
        recorder = Recorder(in_memory / f"life-{kills}")
        finished = Life(recorder).start("one", rivals=False, kill_at=kills)
        begun = len(recorder.ops)
        Life(recorder).start("one", rivals=False)
        found = checker.run(recorder.base, recorder.ops, start=begun)
        problems += [f"killed at {kills}, {problem}" for problem in found]
        kills += 1
    assert problems == []
    assert kills >= 16
