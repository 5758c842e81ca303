"""Real workers, really killed: what comes back, what stops, and what is said."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import statistics
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator import lingering
from relight.orchestrator.forking.group import Group
from relight.orchestrator.forking.spawning import Entry, Spawn
from relight.orchestrator.judging.policy import Settings
from relight.tests.orchestrator.launching import SCRIPTS, Launched, meanwhile, spec_of
from relight.tests.processes import alive
from relight.tests.waiting import wait_until

TRAIN = SCRIPTS / "train.py"
EXITS = SCRIPTS / "exits.py"
KILLS = 20


def test_twenty_kills_in_a_row_come_back_twenty_times(launched: Launched, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    took_s: list[float] = []

    def kill_one_after_another() -> None:
        for attempt in range(1, KILLS + 1):
            beats = wait_until(lambda n=attempt: launched.training(n), what=f"attempt {attempt}, seed {seed}")
            victim = chance.choice(beats)
            last_step = victim.step
            os.kill(victim.pid, signal.SIGKILL)
            killed_ns = time.monotonic_ns()
            beats = wait_until(lambda n=attempt + 1: launched.training(n), what=f"a restart, seed {seed}")
            # The first beat that we happen to see; steps take well under a millisecond.
            took_s.append((min(beat.at_ns for beat in beats) - killed_ns) / 1e9)
            assert all(beat.step >= last_step for beat in beats), f"lost steps, seed {seed}"
        stop.touch()

    with meanwhile(kill_one_after_another):
        code = launched.run("--nproc-per-node=2", TRAIN, tmp_path / "state", stop)

    print(f"seed {seed}: from kill to step: median {statistics.median(took_s):.3f} s, most {max(took_s):.3f} s")
    assert code == ExitCode.FINISHED
    assert len(launched.said) == KILLS
    assert all("was killed by SIGKILL at step" in line for line in launched.said)
    assert launched.said[0].endswith("; restarting (attempt 2)")
    assert not [line for line in launched.said if " in " in line], "progress was made: nothing is waited for"


def test_a_bug_that_repeats_is_told_once_and_not_tried_a_third_time(launched: Launched) -> None:
    assert launched.run("--nproc-per-node=2", EXITS, "wait", "raise") == ExitCode.GAVE_UP

    again, block = launched.said
    assert re.fullmatch(r"[\d:]{8} rank 1 on \S+ failed: ValueError: raise; restarting \(attempt 2\)", again)
    assert block.startswith(
        "stopped with exit code 70: the same error at the same step again, and nothing was committed in between\n"
        "  cause    ValueError: raise (an error in the training code)\n"
    )
    assert block.count("Traceback (most recent call last)") == 1
    # It starts in the user's script: nothing of ours is in it.
    assert block.split("Traceback")[1].splitlines()[1].strip().startswith(f'File "{EXITS}", line ')
    assert block.endswith("ValueError: raise")


def test_bugs_that_differ_are_tried_until_nothing_was_committed_for_too_long(launched: Launched) -> None:
    spec = spec_of("--nproc-per-node=1", EXITS, "raise-new")
    patient = replace(spec, settings=Settings(max_without_progress=4, backoff_s=0.001))
    assert launched.run(spec=patient) == ExitCode.GAVE_UP
    assert len(launched.said) == 4
    assert re.search(
        r"restarting in 0\.00\d+ s \(attempt 3\): failure 2 in a row without a newly committed step$", launched.said[1]
    )
    assert launched.said[-1].startswith(
        "stopped with exit code 70: 4 failures in a row without a newly committed step\n"
        "  cause    ValueError: raise-new in attempt 4 "
    )


def test_a_rank_that_fails_and_does_not_end_is_not_waited_for(
    launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "GRACE_S", 0.2)
    spec = spec_of("--nproc-per-node=2", "--max-restarts=0", EXITS, "wait", "raise-held")
    assert launched.run(spec=spec) == ExitCode.GAVE_UP
    assert launched.said[0] == "rank 1 has failed and does not end: killed with its peers"
    assert "  cause    ValueError: raise-held (an error in the training code)\n" in launched.said[1]
    assert len(launched.said) == 2


def test_max_restarts_is_a_cap(launched: Launched) -> None:
    spec = spec_of("--nproc-per-node=1", "--max-restarts=1", EXITS, "-9")
    assert launched.run(spec=spec) == ExitCode.GAVE_UP
    assert launched.said[0].endswith(" was killed by SIGKILL; restarting (attempt 2)")
    assert launched.said[1].startswith("stopped with exit code 70: --max-restarts=1 is used up\n")


def test_the_first_cause_is_named_and_what_followed_is_counted(launched: Launched, tmp_path: Path) -> None:
    def kill() -> None:
        for attempt in (1, 2):
            beats = wait_until(lambda n=attempt: launched.training(n))
            os.kill(beats[1].pid, signal.SIGKILL)

    spec = spec_of("--nproc-per-node=2", "--max-restarts=1", TRAIN, tmp_path / "state", tmp_path / "stop")
    with meanwhile(kill):
        assert launched.run(spec=spec) == ExitCode.GAVE_UP
    assert re.match(r"[\d:]{8} rank 1 on \S+ was killed by SIGKILL at step \d", launched.said[0])
    assert "  cause    killed by SIGKILL (killed)\n  where    rank 1 on " in launched.said[1]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (("0", "0"), ExitCode.FINISHED),
        (("75", "75"), ExitCode.PREEMPTED),
        (("0", "75"), ExitCode.PREEMPTED),
        (("78", "78"), ExitCode.BAD_CONFIG),
        (("78", "75"), ExitCode.BAD_CONFIG),
        (("70", "70"), ExitCode.GAVE_UP),
        (("3", "wait"), ExitCode.GAVE_UP),
        (("wait", "-11"), ExitCode.GAVE_UP),
    ],
)
def test_exit_codes(launched: Launched, verdicts: tuple[str, str], code: ExitCode) -> None:
    spec = spec_of("--nproc-per-node=2", "--max-restarts=0", EXITS, *verdicts)
    assert launched.run(spec=spec) == code


def test_when_one_says_why_it_ends_the_others_may_end_too_but_not_for_ever(launched: Launched) -> None:
    spec = spec_of("--nproc-per-node=2", "--shutdown-timeout=1", EXITS, "75", "wait")
    assert launched.run(spec=spec) == ExitCode.PREEMPTED
    assert launched.said[0] == "killed after 1 s: rank 1"


def test_every_decision_is_in_the_journal(launched: Launched) -> None:
    launched.run("--nproc-per-node=1", "--max-restarts=1", EXITS, "-9")
    assert launched.journal is not None
    lines = [json.loads(line) for line in launched.journal.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["joined", "exited", "failed", "decided"] * 2
    assert lines[1]["returncode"] == -9
    assert lines[2]["kind"] == "KILLED"
    assert lines[3]["decision"] == "Restart"
    assert lines[7] | {"at": 0, "host": ""} == {
        "event": "decided",
        "at": 0,
        "host": "",
        "incarnation": "incarnation",
        "attempt": 2,
        "decision": "Stop",
        "exit_code": 70,
        "reason": "--max-restarts=1 is used up",
        "excludes": False,
    }


def test_a_zygote_that_is_killed_takes_its_workers_along_and_is_replaced(tmp_path: Path) -> None:
    with closing(Group(os.environ | {"OMP_NUM_THREADS": "1"})) as group:
        group.start([Spawn(0, Entry("exec", "sleep", ("1000",)), {})])
        wait_until(lambda: group.exits() or group.pids(), deadline_s=60, what="the worker's start")
        (pid,) = group.pids().values()
        group._zygote.kill()
        wait_until(lambda: not alive(pid), what="the kernel to end its worker, without our help")
        assert [(each.rank, each.returncode) for each in wait_until(group.exits)] == [(0, -signal.SIGKILL)]

        launched = Launched(group, tmp_path)

        def kill_zygote() -> None:
            beats = wait_until(lambda: launched.training(1), deadline_s=60)
            zygote = int(Path(f"/proc/{beats[0].pid}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(zygote, signal.SIGKILL)
            wait_until(lambda: not any(alive(beat.pid) for beat in beats), what="its workers to die with it")
            wait_until(lambda: launched.training(2), deadline_s=60)
            (tmp_path / "stop").touch()

        with meanwhile(kill_zygote):
            code = launched.run("--nproc-per-node=2", TRAIN, tmp_path / "state", tmp_path / "stop")
        assert code == ExitCode.FINISHED
        assert "was killed by SIGKILL" in launched.said[0]
