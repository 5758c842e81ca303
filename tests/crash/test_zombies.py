"""Writers that were thought dead: of many that claim one wins each time, and one that wakes up late harms nobody."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from relight.tests.contract.racing import race

PROCESSES, ROUNDS = 16, 50


def test_16_processes_claim_for_50_rounds_and_each_generation_has_one_winner(
    in_memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    rounds = race("claim", str(in_memory), processes=PROCESSES, rounds=ROUNDS)
    with capsys.disabled():
        print(
            f"\nclaims: {PROCESSES} processes, {len(rounds)} rounds, one winner for each of {PROCESSES} generations; "
            f"{time.monotonic() - began:.1f} s"
        )
    assert len(rounds) == ROUNDS
    assert all(sorted(numbers) == list(range(1, PROCESSES + 1)) for numbers in rounds)


def haunt(folder: Path, seed: int, first: int, times: int) -> dict[str, Any]:
    """What `zombies` saw: a stop before every step of two saves, `times` over."""
    folder.mkdir()
    command = [sys.executable, "-m", "relight.tests.crash.zombies", str(folder)]
    command += ["--seed", str(seed), "--first", str(first), "--times", str(times)]
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=280, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("times", [2, pytest.param(12, marks=pytest.mark.soak)])
def test_a_writer_stopped_anywhere_and_woken_after_a_takeover_harms_nothing(
    in_memory: Path, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    began, seed, half = time.monotonic(), random.randrange(1_000_000), times // 2
    with ThreadPoolExecutor() as pool:  # Each waits for a process of its own.
        both = list(pool.map(lambda n: haunt(in_memory / f"{n}", seed + n, n * half, half), (0, 1)))
    takeovers, late = (sum(figures[key] for figures in both) for key in ("takeovers", "late_commits"))
    endings = sum((Counter(figures["endings"]) for figures in both), Counter[str]())
    problems = [problem for figures in both for problem in figures["problems"]]
    with capsys.disabled():
        print(
            f"\nzombies: {takeovers} stopped and woken after a takeover, {late} late commits, {dict(endings)}, "
            f"{len(problems)} problems; seeds {seed}, {seed + 1}; {time.monotonic() - began:.1f} s"
        )
    assert problems == []
    assert takeovers >= 100 * times
    assert late > 0
