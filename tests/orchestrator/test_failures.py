"""From what the ranks left behind to the one first cause."""

from __future__ import annotations

import pytest

from relight.configs.failure import FailureReport
from relight.configs.heartbeat import Beat, Phase
from relight.orchestrator.judging.failures import ExitEvidence, Failure, FailureClass, classify
from relight.orchestrator.preflight import storage_errors


def report(kind: str, message: str = "", *, at_ns: int = 0, step: int = -1) -> FailureReport:
    return FailureReport(kind, message, f"Traceback of {kind}", step, at_ns)


def ended(
    rank: int,
    returncode: int,
    told: FailureReport | None = None,
    *,
    at_ns: int = 1000,
    killed: bool = False,
    step: int | None = None,
) -> ExitEvidence:
    beat = Beat(Phase.TRAINING, step, step - step % 10, -1, 1, 0) if step is not None else None
    return ExitEvidence(rank, 100 + rank, returncode, rank, at_ns, killed, told, beat)


TORN = report("RuntimeError", "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711", at_ns=5)


def first_of(*evidence: ExitEvidence) -> Failure:
    failure = classify(evidence, storage_errors())
    assert failure is not None
    return failure


def test_nothing_failed_when_every_rank_finished() -> None:
    assert classify([ended(0, 0), ended(1, 0)]) is None


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (ended(0, -9), FailureClass.KILLED),
        (ended(0, -11), FailureClass.KILLED),
        (ended(0, 1), FailureClass.USER_BUG),
        (ended(0, 78, report("BadTask")), FailureClass.BAD_CONFIG),
        (ended(0, 70, report("Fenced")), FailureClass.GAVE_UP),
        (ended(0, 75), FailureClass.PREEMPTED),
        (ended(0, 1, report("ValueError", "no")), FailureClass.USER_BUG),
        (ended(0, 1, report("OutOfMemoryError", "CUDA out of memory.")), FailureClass.OUT_OF_MEMORY),
        (ended(0, 1, report("MemoryError")), FailureClass.OUT_OF_MEMORY),
        (
            ended(0, 1, report("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried")),
            FailureClass.OUT_OF_MEMORY,
        ),
        (ended(0, 1, report("DistBackendError", "NCCL error")), FailureClass.COMMUNICATION),
        (ended(0, 1, report("DistNetworkError", "The client socket has timed out")), FailureClass.COMMUNICATION),
        (ended(0, 1, TORN), FailureClass.COMMUNICATION),
        (ended(0, 1, report("RuntimeError", "shape mismatch")), FailureClass.USER_BUG),
        (ended(0, 1, report("ConnectionResetError", "Connection reset by peer")), FailureClass.USER_BUG),
        (ended(0, 1, report("StorageUnavailable", "no space")), FailureClass.STORAGE),
        (ended(0, 1, report("StorageTrouble", "no answer")), FailureClass.STORAGE),
    ],
)
def test_kinds(evidence: ExitEvidence, kind: FailureClass) -> None:
    assert first_of(evidence).kind is kind


def test_what_others_see_of_a_dead_rank_is_not_the_cause_even_if_it_came_first() -> None:
    bug = report("ValueError", "the cause", at_ns=9)
    failure = first_of(ended(0, 1, TORN, at_ns=10), ended(1, 1, bug, at_ns=900), ended(2, 1, TORN))
    assert (failure.rank, failure.what, failure.folded) == (1, "ValueError: the cause", 2)


def test_a_torn_connection_is_the_cause_when_there_is_no_other() -> None:
    later = report("DistBackendError", at_ns=6)
    assert first_of(ended(0, 1, later), ended(1, 1, TORN)).rank == 1


def test_a_report_tells_the_time_of_the_failure_not_the_end_of_the_process() -> None:
    early, late = report("KeyError", at_ns=10), report("ValueError", at_ns=20)
    assert first_of(ended(0, 1, late, at_ns=100), ended(1, 1, early, at_ns=200)).what == "KeyError"


def test_a_rank_that_we_killed_after_it_had_reported_failed_by_itself() -> None:
    bug = report("ValueError", "boom", at_ns=4)
    failure = first_of(ended(0, 1, TORN, at_ns=10), ended(1, -9, bug, at_ns=20, killed=True))
    assert (failure.rank, failure.kind, failure.signal_name) == (1, FailureClass.USER_BUG, "")


def test_ranks_that_we_killed_say_nothing() -> None:
    failure = first_of(ended(0, -9, at_ns=10), ended(1, -9, at_ns=5, killed=True))
    assert (failure.rank, failure.folded, failure.signal_name) == (0, 0, "SIGKILL")


def test_exit_codes_that_are_answers_go_before_everything() -> None:
    bug = ended(0, 1, report("ValueError", at_ns=1))
    assert first_of(bug, ended(1, 75)).kind is FailureClass.PREEMPTED
    assert first_of(bug, ended(1, 75), ended(2, 70)).kind is FailureClass.GAVE_UP
    assert first_of(bug, ended(1, 75), ended(2, 70), ended(3, 78)).kind is FailureClass.BAD_CONFIG


def test_step_and_progress_come_from_the_heartbeats() -> None:
    failure = first_of(ended(0, -9, step=37), ended(1, -9, step=41, killed=True))
    assert (failure.step, failure.committed_step) == (37, 40)
    assert first_of(ended(0, 1, report("ValueError", step=3), step=37)).step == 3
    assert first_of(ended(0, -9)).step == -1


@pytest.mark.parametrize(
    ("evidence", "what"),
    [
        (ended(0, -9), "killed by SIGKILL"),
        (ended(0, -40), "killed by signal 40"),
        (ended(0, 3), "exit code 3"),
        (ended(0, 75), "told to stop"),
        (ended(0, 1, report("KeyError", "'x'\nand more")), "KeyError: 'x'"),
        (ended(0, 1, report("KeyError")), "KeyError"),
    ],
)
def test_a_failure_is_told_in_one_line(evidence: ExitEvidence, what: str) -> None:
    assert first_of(evidence).what == what


def test_an_answer_of_several_lines_is_told_whole() -> None:
    told = FailureReport("BadTask", "line one\nline two", "", -1, 1)
    assert first_of(ended(0, 78, told)).details == "line one\nline two"
    assert first_of(ended(0, 78, FailureReport("BadTask", "one line", "", -1, 1))).details == ""
