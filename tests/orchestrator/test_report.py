"""What the user reads."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator.judging.failures import Failure, FailureClass
from relight.orchestrator.judging.policy import Restart, Stop
from relight.orchestrator.report import asked_to_stop, restarting, stopping

KILLED = Failure(FailureClass.KILLED, 1, "killed by SIGKILL", step=37, signal_name="SIGKILL")
BUG = Failure(FailureClass.USER_BUG, 0, "ValueError: boom", step=12, details="Traceback ...\nValueError: boom\n")


@pytest.mark.parametrize(
    ("failure", "delay_s", "line"),
    [
        (KILLED, 0.0, "rank 1 was killed by SIGKILL at step 37; restarting (attempt 2)"),
        (KILLED, 2.0, "rank 1 was killed by SIGKILL at step 37; restarting in 2 s (attempt 2)"),
        (replace(KILLED, step=-1), 0.0, "rank 1 was killed by SIGKILL; restarting (attempt 2)"),
        (BUG, 0.5, "rank 0 failed at step 12: ValueError: boom; restarting in 0.5 s (attempt 2)"),
    ],
)
def test_a_restart_is_one_line(failure: Failure, delay_s: float, line: str) -> None:
    assert restarting(failure, Restart(delay_s, "why"), 2) == line


def test_a_stop_says_what_where_why_and_the_traceback_once() -> None:
    block = stopping(replace(BUG, folded=3), Stop(ExitCode.GAVE_UP, "the reason"), "node7", 2)
    assert block == (
        "stopped with exit code 70: the reason\n"
        "  cause    ValueError: boom (an error in the training code)\n"
        "  where    rank 0 on node7, at step 12, attempt 2\n"
        "  beside   3 other ranks failed after it, which is not shown\n"
        "\n"
        "Traceback ...\n"
        "ValueError: boom"
    )


def test_a_stop_says_no_more_than_is_known() -> None:
    block = stopping(replace(KILLED, step=-1, folded=1), Stop(ExitCode.GAVE_UP, "why"), "node7", 5)
    assert block.splitlines()[2:] == [
        "  where    rank 1 on node7, no step known, attempt 5",
        "  beside   one other rank failed after it, which is not shown",
    ]


def test_a_preemption_is_no_failure() -> None:
    told = Failure(FailureClass.PREEMPTED, 0, "told to stop")
    assert stopping(told, Stop(ExitCode.PREEMPTED, "why"), "node7", 1) == "stopped with exit code 75: why"


def test_a_notice_is_confirmed() -> None:
    assert asked_to_stop(signal.SIGTERM, 60) == "SIGTERM: the workers have 60 s to save and end"
    assert asked_to_stop(signal.SIGINT, 1.5).endswith("1.5 s to save and end; press Ctrl-C again to end them at once")
