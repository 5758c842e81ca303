"""Why a worker group ended: from what every rank left behind to the one first cause. Pure: no clock, no I/O."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ...configs.failure import FailureReport
from ...configs.heartbeat import Beat
from ...configs.protocol import ExitCode


class FailureClass(Enum):
    """What kind of thing went wrong; the policy treats each in its own way."""

    BAD_CONFIG = "bad configuration"
    GAVE_UP = "the workers gave up"
    PREEMPTED = "preempted"
    USER_BUG = "an error in the training code"
    OUT_OF_MEMORY = "out of memory"
    KILLED = "killed"
    STORAGE = "storage"
    COMMUNICATION = "communication"


@dataclass(frozen=True, slots=True)
class ExitEvidence:
    """What one rank left behind.

    `returncode` is the exit code, or minus the signal's number; `order` counts the exits as they were seen, from 0,
    and `at_ns` is when (host's monotonic clock). `killed_by_us`: it was running when we killed the group, so its
    signal says nothing, but a report that it had already written does.
    """

    rank: int
    pid: int
    returncode: int
    order: int
    at_ns: int
    killed_by_us: bool = False
    report: FailureReport | None = None
    beat: Beat | None = None

    @property
    def failed_by_itself(self) -> bool:
        return self.report is not None or (self.returncode != 0 and not self.killed_by_us)

    @property
    def moment(self) -> tuple[int, int]:
        """When it failed: a rank writes its report long before its interpreter is gone."""
        return (self.report.at_ns if self.report is not None and self.report.at_ns else self.at_ns), self.order


@dataclass(frozen=True, slots=True)
class Failure:
    """The first cause. `step` and `committed_step` are -1 where nobody said; `folded` counts the secondary errors."""

    kind: FailureClass
    rank: int
    what: str
    """One line: `ValueError: no such column`, or `killed by SIGKILL`."""
    step: int = -1
    committed_step: int = -1
    resumed_step: int = -1
    """What the workers had gone on from, which may have been in memory alone."""
    details: str = ""
    """The traceback, or all of a message that has more than one line."""
    message: str = ""
    """What the rank's report says, whole."""
    signal_name: str = ""
    folded: int = 0

    @property
    def signature(self) -> tuple[str, int]:
        """Two failures with the same signature are the same bug."""
        return self.what, self.step


_DISTRIBUTED_ERRORS: Final = frozenset({"DistError", "DistBackendError", "DistNetworkError", "DistStoreError"})
_TORN_CONNECTION: Final = re.compile(
    r"connection (reset|closed|refused)|broken pipe|socket (closed|timeout)|timed out (after|waiting)"
    r"|gloo|nccl|connectfullmesh|store.*(wait|timeout)",
    re.IGNORECASE,
)
_NO_MEMORY: Final = re.compile(r"out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)
_OUT_OF_MEMORY_ERRORS: Final = frozenset({"OutOfMemoryError", "MemoryError"})
_BY_EXIT_CODE: Final = {
    ExitCode.BAD_CONFIG.value: FailureClass.BAD_CONFIG,
    ExitCode.GAVE_UP.value: FailureClass.GAVE_UP,
    ExitCode.PREEMPTED.value: FailureClass.PREEMPTED,
}

ANSWERS: Final = frozenset(_BY_EXIT_CODE)
"""Exit codes by which a worker that is well says how things are; its peers are about to say the same."""
_URGENCY: Final = {kind: place for place, kind in enumerate(_BY_EXIT_CODE.values())} | {
    FailureClass.COMMUNICATION: len(_BY_EXIT_CODE) + 1
}


def classify(evidence: Sequence[ExitEvidence], storage_errors: frozenset[str] = frozenset()) -> Failure | None:
    """The first cause, or None when every rank finished.

    An exit code that is an answer (78, 70, 75, in this order) goes before everything. Otherwise the earliest failure
    is the cause, but errors of the communication between ranks come last: they are what the others see of a rank
    that is gone.

    `storage_errors` are the names of the exception classes that mean trouble with the storage.
    """
    failed = sorted((each for each in evidence if each.failed_by_itself), key=lambda each: each.moment)
    if not failed:
        return None
    kinds = {each.rank: kind_of(each, storage_errors) for each in failed}
    first = min(failed, key=lambda each: (_urgency(kinds[each.rank]), each.moment))
    return Failure(
        kind=kinds[first.rank],
        rank=first.rank,
        what=describe(first),
        step=_step_of(first),
        committed_step=max((each.beat.committed_step for each in evidence if each.beat is not None), default=-1),
        resumed_step=max((each.beat.resumed_step for each in evidence if each.beat is not None), default=-1),
        details=_details(first.report),
        message=first.report.message if first.report is not None else "",
        signal_name=_signal_name(first.returncode) if first.report is None else "",
        folded=len(failed) - 1,
    )


def _urgency(kind: FailureClass) -> int:
    return _URGENCY.get(kind, len(_BY_EXIT_CODE))


def kind_of(evidence: ExitEvidence, storage_errors: frozenset[str] = frozenset()) -> FailureClass:
    """What kind of failure this rank had, seen alone."""
    if evidence.returncode in _BY_EXIT_CODE:
        return _BY_EXIT_CODE[evidence.returncode]
    if evidence.report is not None:
        return _kind_of_report(evidence.report, storage_errors)
    return FailureClass.KILLED if evidence.returncode < 0 else FailureClass.USER_BUG


def _kind_of_report(report: FailureReport, storage_errors: frozenset[str]) -> FailureClass:
    # Only a RuntimeError's text is looked at: a ConnectionResetError of the user's data source is the user's error.
    text = report.message if report.kind == "RuntimeError" else ""
    if report.kind in storage_errors:
        return FailureClass.STORAGE
    if report.kind in _OUT_OF_MEMORY_ERRORS or _NO_MEMORY.search(text):
        return FailureClass.OUT_OF_MEMORY
    if report.kind in _DISTRIBUTED_ERRORS or _TORN_CONNECTION.search(text):
        return FailureClass.COMMUNICATION
    return FailureClass.USER_BUG


def describe(evidence: ExitEvidence) -> str:
    """One line that says how this rank ended."""
    if evidence.report is not None:
        first_line = evidence.report.message.partition("\n")[0]
        return f"{evidence.report.kind}: {first_line}" if first_line else evidence.report.kind
    if evidence.returncode < 0:
        return f"killed by {_signal_name(evidence.returncode)}"
    if evidence.returncode == ExitCode.PREEMPTED:
        return "told to stop"
    return f"exit code {evidence.returncode}"


def _details(report: FailureReport | None) -> str:
    if report is None:
        return ""
    return report.traceback or (report.message if "\n" in report.message else "")


def _signal_name(returncode: int) -> str:
    if returncode >= 0:
        return ""
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # A real-time signal has a number only.
        return f"signal {-returncode}"


def _step_of(evidence: ExitEvidence) -> int:
    if evidence.report is not None and evidence.report.step >= 0:
        return evidence.report.step
    return evidence.beat.step if evidence.beat is not None else -1
