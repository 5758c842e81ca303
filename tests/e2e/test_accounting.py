"""A real run, killed once: what is booked adds up to the clock on the wall, and is what happened."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from relight.tests.e2e.paced_task import HURRY
from relight.tests.e2e.running import Run, started
from relight.tests.orchestrator.test_metrics import scraped
from relight.tests.servers import free_ports
from relight.tests.waiting import wait_until
from relight.tests.workers.test_scalars import shown

PACE_S = 0.1
TASK = ("task=paced_task:Paced", "checkpoint.memory_every=never", "data.num_workers=0")


def _status(run: Run) -> dict[str, object]:
    answer = run.relight("status", "--json")
    assert answer.returncode == 0, answer.stderr
    facts: dict[str, object] = json.loads(answer.stdout)
    return facts


def test_a_killed_run_is_booked_to_within_a_percent_of_the_clock_on_the_wall(folder: Path) -> None:
    (port,) = free_ports(1)
    metrics = f"metrics={{prometheus: {port}, tensorboard: {folder}/board}}"
    run = Run(folder, *TASK, "train.epochs=12", "checkpoint.every=40", metrics)
    began = time.monotonic()
    with started(run) as process:
        run.await_step(75)
        os.kill(run.pid(1), signal.SIGKILL)
        run.await_step(76)
        redone_from = wait_until(lambda: _scrape(port).get("relight_steps_redone_total"), deadline_s=60)
        assert _scrape(port)['relight_failures_total{class="killed"}'] == 1
        while_it_ran = _status(run)
        assert process.wait(200) == 0, run.text
    wall_s = time.monotonic() - began

    facts = _status(run)
    seconds = facts["seconds"]
    assert isinstance(seconds, dict)
    redone = facts["steps_redone"]
    assert isinstance(redone, int)
    print(
        f"\nwall clock {wall_s:.3f} s from outside, {facts['wall_s']} s booked: {seconds}\n"
        f"{redone} steps of about {PACE_S} s redone: {seconds['lost_work']} s lost; "
        f"from failure to step {facts['restart_median_s']} s; goodput {facts['goodput']}"
    )
    assert (while_it_ran["state"], facts["state"], facts["step"]) == ("running", "finished", 12 * 16)
    assert sum(seconds.values()) == pytest.approx(wall_s, rel=0.01)
    assert 0 < redone_from == redone <= 40
    assert facts["failures"] == {"KILLED": 1}
    assert redone * PACE_S < seconds["lost_work"] < seconds["productive"]
    assert seconds["restart"] > 0
    board = shown(folder / "board")
    assert [step for step, _ in board["loss"]] == list(range(1, 193)), "each step once, though some were done twice"
    assert [step for step, _ in board["metrics/accuracy"]] == list(range(16, 193, 16))
    assert 0 < board["goodput"][-1][1] < 1


def _scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return scraped(answer.read().decode())


def test_a_launcher_that_was_killed_and_started_again_is_one_account(folder: Path) -> None:
    run = Run(folder, *TASK, "train.epochs=8", "checkpoint.every=20", ranks=1)
    with started(run) as process:
        run.await_step(50)
        wait_until(lambda: _shown_step(run) >= 40, deadline_s=60, what="how things are in the storage")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    killed_at = time.monotonic()
    wait_until(lambda: not run.persisters(), deadline_s=60)
    (folder / HURRY).touch()
    away_s = time.monotonic() - killed_at
    assert run.finish() == 0, run.text
    facts = _status(run)
    seconds = facts["seconds"]
    assert isinstance(seconds, dict)
    print(f"\naway for {away_s:.1f} s, {seconds['away']} s booked so; {facts['steps_redone']} steps redone: {seconds}")
    assert (facts["state"], facts["lives"], facts["failures"]) == ("finished", 2, {"LAUNCHER_LOST": 1})
    assert sum(seconds.values()) == pytest.approx(facts["wall_s"], rel=0.01)
    assert seconds["away"] > 0


def _shown_step(run: Run) -> int:
    shown = list((run.url / "journal").glob("*-now.jsonl"))
    return int(json.loads(shown[0].read_text())["step"]) if shown else -1
