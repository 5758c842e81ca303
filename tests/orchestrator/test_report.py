"""What the user reads."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator.judging.failures import Failure, FailureClass
from relight.orchestrator.judging.policy import Restart, Stop
from relight.orchestrator.report import Scene, asked_to_stop, restarting, stopping

KILLED = Failure(FailureClass.KILLED, 1, "killed by SIGKILL", step=37, signal_name="SIGKILL")
SCENE = Scene("node7", 2, datetime(2026, 11, 22, 3, 15, 42, tzinfo=UTC))
BUG = Failure(FailureClass.USER_BUG, 0, "ValueError: boom", step=12, details="Traceback ...\nValueError: boom\n")


@pytest.mark.parametrize(
    ("failure", "delay_s", "line"),
    [
        (KILLED, 0.0, "rank 1 on node7 was killed by SIGKILL at step 37; restarting (attempt 3)"),
        (KILLED, 1.23456, "rank 1 on node7 was killed by SIGKILL at step 37; restarting in 1.23 s (attempt 3): why"),
        (replace(KILLED, step=-1), 0.0, "rank 1 on node7 was killed by SIGKILL; restarting (attempt 3)"),
        (BUG, 0.5, "rank 0 on node7 failed at step 12: ValueError: boom; restarting in 0.5 s (attempt 3): why"),
    ],
)
def test_a_restart_is_one_line(failure: Failure, delay_s: float, line: str) -> None:
    assert restarting(failure, Restart(delay_s, "why"), SCENE) == f"03:15:42 {line}"


def test_a_stop_says_what_where_when_why_and_the_traceback_once() -> None:
    scene = replace(SCENE, logs=("/logs/attempt_2/0/stderr.log",), journal="/logs/journal.jsonl")
    beside = tuple(f"rank {rank}: RuntimeError: Connection closed by peer" for rank in (1, 2, 3))
    block = stopping(replace(BUG, folded=5, beside=beside), Stop(ExitCode.GAVE_UP, "the reason"), scene)
    assert block == (
        "stopped with exit code 70: the reason\n"
        "  cause    ValueError: boom (an error in the training code)\n"
        "  where    rank 0 on node7, at step 12, attempt 2\n"
        "  when     2026-11-22 03:15:42\n"
        "  beside   5 other ranks failed, too; it is not the cause\n"
        "             rank 1: RuntimeError: Connection closed by peer\n"
        "             rank 2: RuntimeError: Connection closed by peer\n"
        "             rank 3: RuntimeError: Connection closed by peer\n"
        "             and 2 more\n"
        "  log      /logs/attempt_2/0/stderr.log\n"
        "  journal  /logs/journal.jsonl\n"
        "\n"
        "Traceback ...\n"
        "ValueError: boom"
    )


def test_a_stop_says_no_more_than_is_known() -> None:
    block = stopping(replace(KILLED, step=-1, folded=1), Stop(ExitCode.GAVE_UP, "why"), SCENE)
    assert block.splitlines()[2:] == [
        "  where    rank 1 on node7, no step known, attempt 2",
        "  when     2026-11-22 03:15:42",
        "  beside   one other rank failed, too; it is not the cause",
    ]


def test_of_an_endless_traceback_both_ends_are_shown() -> None:
    endless = replace(BUG, details="\n".join(f"line {number}" for number in range(2000)))
    lines = stopping(endless, Stop(ExitCode.GAVE_UP, "why"), SCENE).splitlines()
    assert len(lines) < 130
    assert [line for line in lines if "left out" in line] == ["  ... 1880 lines left out ..."]
    assert lines[-1] == "line 1999"
    assert "line 29" in lines
    assert "line 30" not in lines


def test_a_preemption_is_no_failure() -> None:
    told = Failure(FailureClass.PREEMPTED, 0, "told to stop")
    assert stopping(told, Stop(ExitCode.PREEMPTED, "why"), SCENE) == "stopped with exit code 75: why"


def test_a_notice_is_confirmed() -> None:
    assert asked_to_stop(signal.SIGTERM, 60) == "SIGTERM: the workers have 60 s to save and end"
    assert asked_to_stop(signal.SIGINT, 1.5).endswith("1.5 s to save and end; press Ctrl-C again to end them at once")
