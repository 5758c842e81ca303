"""Restart or stop: the whole table."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.configs.protocol import ExitCode
from relight.orchestrator.judging.failures import Failure, FailureClass
from relight.orchestrator.judging.policy import History, Restart, Settings, Stop, decide
from relight.orchestrator.judging.rules import Rule, Then

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
    decision = decide(committed_at(KILLED, max(before)), failing(KILLED, *before), settings, chance=1.0)
    count = len(before) + 1 if before[0] == -1 else 3
    assert decision == Restart(delay_s, f"failure {count} in a row without a newly committed step")


def test_progress_makes_the_next_restart_immediate_again() -> None:
    decision = decide(committed_at(KILLED, 50), failing(KILLED, 40, 40, 40, 40), Settings())
    assert decision == Restart(0.0, "a step was committed since the last failure")


def test_a_run_that_makes_progress_is_restarted_for_ever() -> None:
    history = History()
    for step in range(2_000):
        failure, now_s = committed_at(KILLED, step), 37.0 * step  # 98 an hour.
        assert decide(failure, history, Settings(), now_s=now_s).reason != ""
        history = history.after(failure, now_s)
    assert isinstance(decide(committed_at(KILLED, 2_000), history, Settings(), now_s=74_000.0), Restart)


def test_half_of_the_delay_is_left_to_chance() -> None:
    for chance, delay_s in ((0.0, 2.0), (0.5, 3.0), (1.0, 4.0)):
        decision = decide(KILLED, failing(KILLED, -1, -1, -1), Settings(), chance=chance)
        assert isinstance(decision, Restart)
        assert decision.delay_s == delay_s


def test_too_many_failures_in_a_window_stop_a_run_that_makes_progress() -> None:
    settings, history = Settings(max_failures=3, window_s=60.0), History()
    for step, now_s in enumerate((0.0, 10.0, 20.0)):
        failure = committed_at(KILLED, step)
        assert isinstance(decide(failure, history, settings, now_s=now_s), Restart)
        history = history.after(failure, now_s)
    reason = "4 failures within 60 s, and restart.max_failures is 3"
    assert decide(committed_at(KILLED, 9), history, settings, now_s=59.9) == Stop(ExitCode.GAVE_UP, reason)
    assert isinstance(decide(committed_at(KILLED, 9), history, settings, now_s=60.0), Restart), "the first is too old"


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


NO_ROOM = Failure(FailureClass.OUT_OF_MEMORY, 0, "OutOfMemoryError: 12 MiB are free", step=7, details="Traceback")


def test_memory_that_runs_out_at_a_step_again_is_not_tried_a_third_time() -> None:
    again = replace(NO_ROOM, rank=1, what="OutOfMemoryError: 3 MiB are free")
    assert isinstance(decide(again, failing(NO_ROOM, -1), Settings()), Stop)
    for other in (
        replace(NO_ROOM, step=8),
        replace(NO_ROOM, committed_step=6),
        replace(NO_ROOM, what="killed by SIGKILL (the kernel was out of memory)", details="", signal_name="SIGKILL"),
    ):
        assert isinstance(decide(other, failing(NO_ROOM, -1), Settings()), Restart)
    at_the_start = replace(NO_ROOM, step=-1)
    assert isinstance(decide(at_the_start, failing(at_the_start, -1), Settings()), Restart)


def test_an_address_in_its_text_does_not_make_it_another_bug() -> None:
    first, second = (replace(BUG, what=f"TypeError: <Batch object at 0x7f{n}a04c2>") for n in ("3", "9"))
    assert isinstance(decide(second, failing(first, -1), Settings()), Stop)


def rule(then: Then) -> Rule:
    return Rule(re.compile("boom"), then)


def test_a_rule_that_says_stop_stops_at_once() -> None:
    decision = decide(KILLED, History(), Settings(), rule=rule(Then.STOP))
    assert decision == Stop(ExitCode.GAVE_UP, "the rule `boom: stop` matches")


def test_a_rule_that_says_exclude_stops_this_host_alone() -> None:
    decision = decide(KILLED, History(), Settings(), rule=rule(Then.EXCLUDE))
    reason = "this host takes no further part: the rule `boom: exclude` matches"
    assert decision == Stop(ExitCode.GAVE_UP, reason, excludes=True)


@pytest.mark.parametrize("kind", [FailureClass.USER_BUG, FailureClass.BAD_CONFIG, FailureClass.GAVE_UP])
def test_a_rule_that_says_retry_goes_before_the_class_but_not_before_the_budget(kind: FailureClass) -> None:
    failure, history = replace(BUG, kind=kind), History()
    for count in range(1, Settings().max_without_progress):
        decision = decide(failure, history, Settings(), rule=rule(Then.RETRY))
        assert isinstance(decision, Restart), count
        assert decision.reason.endswith(", and the rule `boom: retry` matches")
        history = history.after(failure)
    assert isinstance(decide(failure, history, Settings(), rule=rule(Then.RETRY)), Stop)


# --- whatever happens -------------------------------------------------------------------------------------------------

FAILURES = st.builds(
    Failure,
    kind=st.sampled_from(FailureClass),
    rank=st.integers(0, 3),
    what=st.sampled_from(["a", "b"]),
    step=st.integers(-1, 5),
    committed_step=st.integers(-1, 5),
    resumed_step=st.integers(-1, 5),
    details=st.sampled_from(["", "Traceback"]),
)
SETTINGS = st.builds(
    Settings,
    max_without_progress=st.integers(0, 4),
    max_restarts=st.none() | st.integers(0, 4),
    max_failures=st.integers(1, 4),
    window_s=st.sampled_from([10.0, 1000.0]),
    backoff_max_s=st.sampled_from([0.0, 3.0]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(FAILURES, st.floats(0, 50), st.floats(0, 1))), SETTINGS)
def test_every_life_of_a_launcher_keeps_its_budget(lives: list[tuple[Failure, float, float]], limits: Settings) -> None:
    history, now_s, restarts_s = History(), 0.0, list[float]()
    for failure, pause_s, chance in lives:
        now_s += pause_s
        decision = decide(failure, history, limits, now_s=now_s, chance=chance)
        if isinstance(decision, Stop):
            break
        history = history.after(failure, now_s)
        restarts_s.append(now_s)
        assert failure.kind not in (FailureClass.PREEMPTED, FailureClass.BAD_CONFIG, FailureClass.GAVE_UP)
        assert 0 <= decision.delay_s <= limits.backoff_max_s
        assert history.without_progress < limits.max_without_progress
        assert sum(now_s - each < limits.window_s for each in restarts_s) <= limits.max_failures
    assert limits.max_restarts is None or len(restarts_s) <= limits.max_restarts


@settings(max_examples=200, deadline=None)
@given(st.lists(FAILURES), SETTINGS, st.data())
def test_preemptions_leave_no_trace(failures: list[Failure], limits: Settings, data: st.DataObject) -> None:
    """Whatever the budget was, thirty preemptions in between leave it as it was."""
    told = Failure(FailureClass.PREEMPTED, 0, "told to stop", committed_step=3)
    with_them = without = History()
    where = data.draw(st.integers(0, len(failures)))
    for number, failure in enumerate([*failures, KILLED]):
        if number == where:
            for _ in range(30):
                assert decide(told, with_them, limits) == Stop(
                    ExitCode.PREEMPTED, "told to stop; run the same command again to continue"
                )
                with_them = with_them.after(told)
        assert decide(failure, with_them, limits) == decide(failure, without, limits)
        with_them, without = with_them.after(failure), without.after(failure)
