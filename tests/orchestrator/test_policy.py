"""Restart or stop: the whole table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator.judging.failures import Failure, FailureClass
from relight.orchestrator.judging.policy import History, Restart, Settings, Stop, decide

KILLED = Failure(FailureClass.KILLED, 1, "killed by SIGKILL", step=37, signal_name="SIGKILL")
BUG = Failure(FailureClass.USER_BUG, 0, "ValueError: boom", step=12)


def failing(what: Failure, *committed: int) -> History:
    """The history after this failure, once for each number: the newest step committed when it came."""
    history = History()
    for step in committed:
        history = history.after(committed_at(what, step))
    return history


def committed_at(failure: Failure, step: int) -> Failure:
    return Failure(failure.kind, failure.rank, failure.what, failure.step, committed_step=step)


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        (
            FailureClass.PREEMPTED,
            ExitCode.PREEMPTED,
            "told to stop; run the same command again to continue",
        ),
        (FailureClass.BAD_CONFIG, ExitCode.BAD_CONFIG, "restarting cannot make a wrong configuration right"),
        (FailureClass.GAVE_UP, ExitCode.GAVE_UP, "the workers say that starting again cannot help"),
    ],
)
def test_an_answer_is_never_tried_again(kind: FailureClass, code: ExitCode, reason: str) -> None:
    assert decide(Failure(kind, 0, ""), History(), Settings()) == Stop(code, reason)


@pytest.mark.parametrize(
    "kind",
    [
        FailureClass.KILLED,
        FailureClass.COMMUNICATION,
        FailureClass.OUT_OF_MEMORY,
        FailureClass.STORAGE,
        FailureClass.USER_BUG,
    ],
)
def test_the_first_restart_is_immediate(kind: FailureClass) -> None:
    assert decide(Failure(kind, 0, ""), History(), Settings()) == Restart(0.0, "first failure")


@pytest.mark.parametrize(
    ("before", "delay_s"),
    [((-1,), 1.0), ((-1, -1), 2.0), ((-1, -1, -1), 4.0), ((-1, -1, -1, -1), 5.0), ((10, 20, 20), 2.0)],
)
def test_the_delay_doubles_while_nothing_is_committed(before: tuple[int, ...], delay_s: float) -> None:
    settings = Settings(max_without_progress=100, backoff_s=1.0, backoff_max_s=5.0)
    decision = decide(committed_at(KILLED, max(before)), failing(KILLED, *before), settings)
    count = len(before) + 1 if before[0] == -1 else 3
    assert decision == Restart(delay_s, f"failure {count} in a row without a newly committed step")


def test_progress_makes_the_next_restart_immediate_again() -> None:
    decision = decide(committed_at(KILLED, 50), failing(KILLED, 40, 40, 40, 40), Settings())
    assert decision == Restart(0.0, "a step was committed since the last failure")


def test_a_run_that_makes_progress_is_restarted_for_ever() -> None:
    history = failing(KILLED, *range(10_000))
    assert isinstance(decide(committed_at(KILLED, 10_000), history, Settings()), Restart)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_too_many_failures_without_progress_stop_the_run(limit: int) -> None:
    settings = Settings(max_without_progress=limit)
    for count in range(1, limit):
        assert isinstance(decide(KILLED, failing(KILLED, *[-1] * (count - 1)), settings), Restart)
    reason = f"{limit} failures in a row without a newly committed step"
    assert decide(KILLED, failing(KILLED, *[-1] * (limit - 1)), settings) == Stop(ExitCode.GAVE_UP, reason)


def test_going_on_from_memory_is_progress_but_does_not_excuse_a_bug() -> None:
    history = History()
    for resumed in (12, 24, 31, 40, 55, 70, 71):
        killed = replace(KILLED, resumed_step=resumed)
        assert isinstance(decide(killed, history, Settings()), Restart)
        history = history.after(killed)
    stuck = replace(KILLED, resumed_step=71)
    for _ in range(Settings().max_without_progress - 2):
        history = history.after(stuck)
    assert isinstance(decide(stuck, history, Settings()), Stop)
    assert isinstance(decide(replace(BUG, resumed_step=11), failing(BUG, -1), Settings()), Stop)


def test_a_limit_of_zero_means_no_restart() -> None:
    assert isinstance(decide(KILLED, History(), Settings(max_without_progress=0)), Stop)


def test_the_same_bug_twice_stops_the_run() -> None:
    reason = "the same error at the same step again, and nothing was committed in between"
    assert decide(BUG, failing(BUG, -1), Settings()) == Stop(ExitCode.GAVE_UP, reason)


@pytest.mark.parametrize(
    "other",
    [
        Failure(FailureClass.USER_BUG, 0, "ValueError: other", step=12),
        Failure(FailureClass.USER_BUG, 0, "ValueError: boom", step=13),
        Failure(FailureClass.KILLED, 0, "ValueError: boom", step=12),
        Failure(FailureClass.USER_BUG, 0, "ValueError: boom", step=12, committed_step=10),
    ],
    ids=["another error", "another step", "no bug", "a step was committed"],
)
def test_what_is_not_the_same_bug_is_tried_again(other: Failure) -> None:
    assert isinstance(decide(other, failing(BUG, -1), Settings()), Restart)


def test_a_bug_is_the_same_on_another_rank() -> None:
    elsewhere = Failure(BUG.kind, 3, BUG.what, BUG.step)
    assert isinstance(decide(elsewhere, failing(BUG, -1), Settings()), Stop)


@pytest.mark.parametrize(("failures", "stops"), [(0, False), (1, False), (2, True)])
def test_max_restarts_caps_all_restarts_whatever_was_committed(*, failures: int, stops: bool) -> None:
    decision = decide(committed_at(KILLED, 99), failing(KILLED, *range(failures)), Settings(max_restarts=2))
    assert isinstance(decision, Stop) is stops
    if stops:
        assert decision == Stop(ExitCode.GAVE_UP, "--max-restarts=2 is used up")


def test_history_keeps_the_newest_step_even_if_a_failure_knows_of_none() -> None:
    assert failing(KILLED, 40, -1).committed_step == 40
