"""From what the ranks left behind to the one first cause."""

from __future__ import annotations

import pytest

from relight.configs.failure import Cause, FailureReport
from relight.orchestrator.judging.causes import classify, is_echo
from relight.orchestrator.judging.failures import ExitEvidence, FailureClass
from relight.orchestrator.judging.kinds import Surroundings
from relight.orchestrator.preflight import storage_errors
from relight.tests.orchestrator.ends import TORN, ended, first_of, raised, report


def test_nothing_failed_when_every_rank_finished() -> None:
    assert classify([ended(0, 0), ended(1, 0)]) is None


GONE = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer"
NO_ROOM = Cause("OutOfMemoryError", "CUDA out of memory.", "torch", ("RuntimeError",))


def test_what_an_error_was_wrapped_in_does_not_change_its_kind() -> None:
    failure = first_of(raised("RuntimeError", "the step failed", NO_ROOM))
    assert failure.kind is FailureClass.OUT_OF_MEMORY
    assert failure.what == "RuntimeError: the step failed, from OutOfMemoryError: CUDA out of memory."
    torn = first_of(raised("TrainingFailed", "rank 0", Cause("RuntimeError", GONE)))
    assert torn.kind is FailureClass.COMMUNICATION


def test_a_torn_connection_in_a_last_attempt_to_save_is_not_the_cause() -> None:
    bug = Cause("ValueError", "no such column", handled=True)
    failure = first_of(raised("RuntimeError", GONE, bug))
    assert (failure.kind, failure.what) == (
        FailureClass.USER_BUG,
        f"RuntimeError: {GONE}, from ValueError: no such column",
    )


def test_what_python_code_runs_into_on_purpose_is_not_the_cause() -> None:
    missed = Cause("KeyError", "'cached'", bases=("LookupError",), handled=True)
    assert first_of(raised("RuntimeError", GONE, missed)).kind is FailureClass.COMMUNICATION
    empty = Cause("Empty", "", "_queue")
    died = first_of(raised("RuntimeError", "DataLoader worker (pid(s) 12) exited unexpectedly", empty))
    assert (died.kind, died.what) == (
        FailureClass.KILLED,
        "RuntimeError: DataLoader worker (pid(s) 12) exited unexpectedly",
    )


def test_a_loader_workers_error_is_told_as_its_own() -> None:
    wrapped = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "/nccl-tests/gloo/transport.py", line 3, in fetch\n    raise ValueError("no column")\n'
        "ValueError: no column\nsecond line\n"
    )
    failure = first_of(raised("ValueError", wrapped))
    assert (failure.kind, failure.what) == (FailureClass.USER_BUG, "ValueError: no column (in a loader worker)")
    assert first_of(raised("RuntimeError", wrapped.replace("ValueError", "RuntimeError"))).kind is FailureClass.USER_BUG


def test_a_connection_that_breaks_while_a_batch_is_taken_over_is_a_loader_workers_end() -> None:
    trace = 'Traceback\n  File "/lib/torch/multiprocessing/reductions.py", line 541, in rebuild_storage_fd\n'
    bases = ("ConnectionError", "OSError")
    told = FailureReport("ConnectionResetError", "[Errno 104] Connection reset by peer", trace, 7, 1, bases=bases)
    assert first_of(ended(0, 1, told)).kind is FailureClass.KILLED


def test_a_sigkill_while_the_kernel_killed_for_memory_is_its_work() -> None:
    around = Surroundings(storage_errors(), oom_kills=1)
    for code in (-9, 137):
        failure = classify([ended(0, code), ended(1, -9, killed=True)], around)
        assert failure is not None
        assert failure.kind is FailureClass.OUT_OF_MEMORY
        assert failure.what.endswith(" (the kernel was out of memory)")
    crash = classify([ended(0, -11)], around)
    assert crash is not None
    assert crash.kind is FailureClass.KILLED
    loader = classify([raised("RuntimeError", "DataLoader worker (pid 12) is killed by signal: Killed. ")], around)
    assert loader is not None
    assert loader.kind is FailureClass.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("tail", "kind", "what"),
    [
        (
            (
                "terminate called after throwing an instance of 'c10::DistBackendError'\n"
                "  what():  [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2\n"
            ),
            FailureClass.COMMUNICATION,
            (
                "killed by SIGABRT: c10::DistBackendError: [Rank 1] Watchdog caught collective operation timeout: "
                "WorkNCCL(SeqNum=2"
            ),
        ),
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
            FailureClass.OUT_OF_MEMORY,
            "killed by SIGABRT: std::bad_alloc: std::bad_alloc",
        ),
        (
            "terminate called after throwing an instance of 'mine::Oops'\n",
            FailureClass.KILLED,
            "killed by SIGABRT: mine::Oops",
        ),
        ("no words", FailureClass.KILLED, "killed by SIGABRT"),
    ],
)
def test_the_last_words_of_an_abort_are_read_where_they_are_kept(tail: str, kind: FailureClass, what: str) -> None:
    failure = classify([ended(0, -6)], Surroundings(storage_errors(), tails={0: tail}))
    assert failure is not None
    assert (failure.kind, failure.what) == (kind, what)


def test_a_rank_that_was_killed_while_it_left_with_an_answer_has_answered() -> None:
    told = FailureReport("StorageRefused", "holds another run", "", -1, 3, exit_code=78)
    assert first_of(ended(0, 1, TORN), ended(1, -9, told, killed=True)).kind is FailureClass.BAD_CONFIG


def test_the_others_are_counted_and_the_first_three_of_them_named() -> None:
    bug = report("ValueError", "the cause", at_ns=9)
    failure = first_of(ended(0, 1, bug), *(ended(rank, 1, TORN) for rank in range(1, 6)))
    assert failure.folded == 5
    assert failure.beside == tuple(f"rank {rank}: RuntimeError: {TORN.message}" for rank in (1, 2, 3))
    assert failure.at_ns == 9


def test_only_a_torn_connection_is_an_echo() -> None:
    assert is_echo(ended(0, 1, TORN))
    assert not is_echo(ended(0, 1, report("ValueError")))
    assert not is_echo(ended(0, -9))


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
        (ended(0, 137), "exit code 137 (SIGKILL)"),
        (ended(0, 1, report("ValueError", "x" * 1000)), f"ValueError: {'x' * 285}..."),
    ],
)
def test_a_failure_is_told_in_one_line(evidence: ExitEvidence, what: str) -> None:
    assert first_of(evidence).what == what


def test_an_answer_of_several_lines_is_told_whole() -> None:
    told = FailureReport("BadTask", "line one\nline two", "", -1, 1)
    assert first_of(ended(0, 78, told)).details == "line one\nline two"
    assert first_of(ended(0, 78, FailureReport("BadTask", "one line", "", -1, 1))).details == ""
