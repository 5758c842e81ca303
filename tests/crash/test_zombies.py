"""Writers that were thought dead: of many that claim one wins each time, and one that wakes up late harms nobody."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
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


def haunt(folder: Path, seed: int, times: int) -> dict[str, Any]:
    """What `zombies` saw: a stop before every step of two saves, `times` over."""
    command = [sys.executable, "-m", "relight.tests.crash.zombies", str(folder)]
    command += ["--seed", str(seed), "--times", str(times)]
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=280, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("times", [2, pytest.param(12, marks=pytest.mark.soak)])
def test_a_writer_stopped_anywhere_and_woken_after_a_takeover_harms_nothing(
    in_memory: Path, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    began, seed = time.monotonic(), random.randrange(1_000_000)
    figures = haunt(in_memory, seed, times)
    with capsys.disabled():
        print(
            f"\nzombies: {figures['takeovers']} stopped and woken after a takeover, {figures['late_commits']} late "
            f"commits, {figures['endings']}, {len(figures['problems'])} problems; seed {seed}; "
            f"{time.monotonic() - began:.1f} s"
        )
    assert figures["problems"] == []
    assert figures["takeovers"] >= 100 * times
    assert figures["late_commits"] > 0
