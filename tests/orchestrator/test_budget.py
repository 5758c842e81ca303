"""What counts against the budget of a run, and what does not, with real workers."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator.forking.group import Group
from relight.orchestrator.judging.policy import Settings
from relight.orchestrator.judging.rules import Rule, Then
from relight.tests.orchestrator.launching import SCRIPTS, Launched, meanwhile, spec_of
from relight.tests.waiting import wait_until

EXITS = SCRIPTS / "exits.py"
NOTES_NOTICES = SCRIPTS / "notes_notices.py"
PREEMPTIONS = 30


def test_thirty_preemptions_in_a_row_never_count(group: Group, tmp_path: Path) -> None:
    """One failure is all that this budget has: a preemption that counted would end the run with 70."""
    finish, codes, began_s = tmp_path / "finish", list[int](), time.monotonic()

    def life(number: int, notice: signal.Signals | None) -> int:
        folder = tmp_path / str(number)
        folder.mkdir()
        ready = folder / "ready"

        def tell() -> None:
            if notice is not None:
                wait_until(lambda: all(Path(f"{ready}.{rank}").exists() for rank in (0, 1)), what="two ranks")
                os.kill(os.getpid(), notice)

        spec = spec_of("--nproc-per-node=2", NOTES_NOTICES, ready, finish)
        spec = replace(spec, settings=Settings(max_without_progress=1, max_restarts=0))
        with meanwhile(tell):
            return Launched(group, folder).run(spec=spec)

    chance = random.Random(7)
    for number in range(PREEMPTIONS):
        codes.append(life(number, chance.choice([signal.SIGTERM, signal.SIGUSR1])))
    finish.touch()
    last = life(PREEMPTIONS, None)
    told = codes.count(ExitCode.PREEMPTED)
    print(f"{told} of {PREEMPTIONS} preemptions ended with 75, then {last}: {time.monotonic() - began_s:.1f} s")
    assert codes == [ExitCode.PREEMPTED] * PREEMPTIONS
    assert last == ExitCode.FINISHED


def test_a_bug_that_repeats_is_tried_twice_and_its_traceback_is_printed_once(launched: Launched) -> None:
    assert launched.run("--nproc-per-node=2", EXITS, "wait", "raise") == ExitCode.GAVE_UP
    assert "\n".join(launched.said).count("Traceback (most recent call last)") == 1
    assert launched.journal is not None
    lines = [json.loads(line) for line in launched.journal.read_text().splitlines()]
    tries = [line["attempt"] for line in lines if line["event"] == "joined"]
    print(f"a bug at the same step: {len(tries)} tries, 1 traceback, exit code 70")
    assert tries == [1, 2]


def test_memory_that_runs_out_at_the_start_is_tried_as_often_as_the_budget_allows(
    launched: Launched, tmp_path: Path
) -> None:
    (tmp_path / "greedy.py").write_text("raise MemoryError\n")
    spec = spec_of("--nproc-per-node=1", tmp_path / "greedy.py")
    spec = replace(spec, settings=Settings(max_without_progress=3, backoff_s=0.001))
    assert launched.run(spec=spec) == ExitCode.GAVE_UP
    assert "3 failures in a row without a newly committed step" in launched.said[2]


@pytest.mark.parametrize(
    ("then", "attempts", "reason"),
    [
        (Then.STOP, 1, "the rule `boom: stop` matches"),
        (Then.RETRY, 4, "4 failures in a row without a newly committed step"),
        (Then.EXCLUDE, 1, "this host takes no further part: the rule `boom: exclude` matches"),
    ],
)
def test_the_users_rules_go_before_everything_but_the_budget(
    launched: Launched, tmp_path: Path, then: Then, attempts: int, reason: str
) -> None:
    """What they match stands in the rank's log alone; without them the bug would be tried twice."""
    (tmp_path / "bug.py").write_text("import sys\nsys.stderr.write('boom\\n')\nraise ValueError('x')\n")
    spec = spec_of("--nproc-per-node=2", "--redirects=3", f"--log-dir={tmp_path}", tmp_path / "bug.py")
    limits = Settings(max_without_progress=4, backoff_s=0.001, rules=(Rule(re.compile("boom"), then),))
    assert launched.run(spec=replace(spec, settings=limits)) == ExitCode.GAVE_UP
    assert len(launched.said) == attempts
    assert launched.said[-1].startswith(f"stopped with exit code 70: {reason}\n")
    assert re.search(rf"\n  log +{tmp_path}/attempt_{attempts}/[01]/stdout.log\n", launched.said[-1])
    assert f"\n  journal  {tmp_path}/journal.jsonl\n" in launched.said[-1]


def test_a_ranks_own_log_has_its_own_traceback(launched: Launched, tmp_path: Path) -> None:
    flags = ("--nproc-per-node=2", "--max-restarts=0", "--redirects=3", f"--log-dir={tmp_path}")
    assert launched.run(*flags, EXITS, "wait", "raise") == ExitCode.GAVE_UP
    log = (tmp_path / "attempt_1" / "1" / "stderr.log").read_text()
    assert log.startswith("Traceback (most recent call last):\n")
    assert log.endswith("ValueError: raise\n")
    assert (tmp_path / "attempt_1" / "0" / "stderr.log").read_text() == ""
