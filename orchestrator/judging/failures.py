"""The words of a judgement: what kinds of failure there are, what a rank leaves behind, and the one first cause."""

from __future__ import annotations

import re
import signal
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
    HARDWARE = "hardware"
    STORAGE = "storage"
    COMMUNICATION = "communication"
    HANG = "a hang"
    HOST_LOST = "a host was lost"


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
    beside: tuple[str, ...] = ()
    """The first few of the secondary errors, one line each."""
    at_ns: int = 0
    """When it was, on this host's monotonic clock; 0: not known better than now."""

    @property
    def signature(self) -> tuple[str, int]:
        """Two failures with the same signature are the same bug."""
        if self.kind is FailureClass.OUT_OF_MEMORY:
            return self.kind.value, self.step  # How much was free, and whose the rest was, differs each time.
        return _ADDRESS.sub("0x", self.what), self.step

    @property
    def told(self) -> bool:
        """The rank has said so itself; otherwise it is known from outside."""
        return bool(self.message or self.details)


_ADDRESS: Final = re.compile(r"0x[0-9a-f]{6,}")
_LINE_CHARACTERS: Final = 300

BY_EXIT_CODE: Final = {
    ExitCode.BAD_CONFIG.value: FailureClass.BAD_CONFIG,
    ExitCode.GAVE_UP.value: FailureClass.GAVE_UP,
    ExitCode.PREEMPTED.value: FailureClass.PREEMPTED,
}
ANSWERS: Final = frozenset(BY_EXIT_CODE)
"""Exit codes by which a worker that is well says how things are; its peers are about to say the same."""

_CRASHES: Final = frozenset(
    {
        signal.SIGHUP, signal.SIGINT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE,
        signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGTERM,
    }
)  # fmt: skip


def describe(evidence: ExitEvidence) -> str:
    """One line that says how this rank ended."""
    code = evidence.returncode
    if evidence.report is not None:
        return headline(evidence.report.kind, evidence.report.message)
    if code < 0:
        return f"killed by {signal_name(code)}"
    if code == ExitCode.PREEMPTED:
        return "told to stop"
    number = signal_of(code)
    return f"exit code {code}" + (f" ({number.name})" if number is not None else "")


def headline(kind: str, message: str) -> str:
    """`ValueError: the first line of its text`, of bounded length; of a loader worker's error, its own."""
    line = message.strip().partition("\n")[0].rstrip()
    text = f"{kind}: {line}" if line else kind
    if wrapped := wrapped_error(message):
        place = next(place for begin, place in _ELSEWHERE.items() if begin in line)
        text = f"{wrapped.partition(chr(10))[0].rstrip()} (in {place})"
    return text if len(text) <= _LINE_CHARACTERS else f"{text[: _LINE_CHARACTERS - 3]}..."


# Without its number: after a restart another worker may meet the same bug.
_ELSEWHERE: Final = {
    "DataLoader worker process": "a loader worker",
    "replica": "a replica",
    "pin memory thread": "the pin memory thread",
}
_WRAPPED: Final = re.compile(rf"\A['\"]?Caught \S+ in ({'|'.join(_ELSEWHERE)})")
_TOLD: Final = re.compile(r"^(?=[A-Za-z_])[\w.]+(: |$)", re.MULTILINE)


def wrapped_error(message: str) -> str:
    """`ValueError: text` where torch has raised a loader worker's error anew with its traceback for a text, else ''."""
    if not _WRAPPED.match(message):
        return ""
    trace = message.rpartition("Traceback (most recent call last):\n")[2]
    told = _TOLD.search(trace)  # Frames are indented; the first line that is not is the error.
    return trace[told.start() :].strip() if told else ""


def signal_of(returncode: int) -> signal.Signals | None:
    """The signal that ended it: by the kernel's word, or by a shell's, which adds 128 and exits."""
    number = -returncode if returncode < 0 else returncode - 128
    try:
        found = signal.Signals(number) if number > 0 else None
    except ValueError:
        return None
    return found if returncode < 0 or found in _CRASHES else None


def signal_name(returncode: int) -> str:
    """`SIGKILL` for -9; a real-time signal has a number only; '' for an exit code."""
    if returncode >= 0:
        return ""
    number = signal_of(returncode)
    return number.name if number is not None else f"signal {-returncode}"
