"""What kind of failure one rank had, seen alone: from its report, its signal or its exit code. Pure.

Texts are those of torch 2.10 to 2.15, gloo, NCCL and CUDA. Where a text could be anybody's it is not looked at: what
nothing here knows is an error in the training code, and that is right most of the time.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ...configs.failure import Cause, FailureReport
from .failures import BY_EXIT_CODE, ExitEvidence, FailureClass, describe, headline, signal_of, wrapped_error

KnownErrors = Mapping[str, FailureClass]
"""Classes of exceptions whose meaning the caller knows, by qualified name."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the ranks' own words.

    `known_errors` are exceptions that mean trouble with the storage, `oom_kills` counts what the kernel killed for
    want of memory during the attempt, and `tails` are the ends of the ranks' log files, where there are any.
    """

    known_errors: KnownErrors
    oom_kills: int = 0
    tails: Mapping[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: FailureClass
    what: str
    """One line."""


def judge(evidence: ExitEvidence, around: Surroundings) -> Verdict:
    """What kind of failure this rank had, and how to say so."""
    report = evidence.report
    code = report.exit_code if report is not None and evidence.killed_by_us else evidence.returncode
    if code in BY_EXIT_CODE:
        return Verdict(BY_EXIT_CODE[code], describe(evidence))
    if report is not None:
        return _of_report(evidence, report, around)
    number = signal_of(evidence.returncode)
    if number is None and evidence.returncode >= 0:
        return Verdict(FailureClass.USER_BUG, describe(evidence))
    if number is signal.SIGKILL and around.oom_kills:
        return Verdict(FailureClass.OUT_OF_MEMORY, f"{describe(evidence)} ({_BY_KERNEL})")
    return _of_last_words(evidence, (around.tails or {}).get(evidence.rank, ""))


_BY_KERNEL: Final = "the kernel was out of memory"


# --- of a report ------------------------------------------------------------------------------------------------------


def _of_report(evidence: ExitEvidence, report: FailureReport, around: Surroundings) -> Verdict:
    itself = Cause(report.kind, report.message, report.module, report.bases)
    kind, error = _first_cause([itself, *report.causes], around.known_errors)
    what = describe(evidence)
    if kind is FailureClass.USER_BUG and {report.kind, *report.bases} & _CUT_OFF and _PASSING.search(report.traceback):
        return Verdict(FailureClass.KILLED, f"{what} (from a loader worker that is gone)")
    if error is not itself:
        what = f"{what}, from {headline(error.kind, error.message)}"
    if kind is FailureClass.KILLED and around.oom_kills and _KILLED_LOADER.search(error.message):
        return Verdict(FailureClass.OUT_OF_MEMORY, f"{what} ({_BY_KERNEL})")
    return Verdict(kind, what)


def _first_cause(errors: list[Cause], known: KnownErrors) -> tuple[FailureClass, Cause]:
    """Of an error and what it came from, the nearest first: the one that says what kind of failure it is.

    The oldest of a kind that is known, whatever it was wrapped in. Otherwise the oldest: what is raised while another
    error is handled, a torn connection in a last attempt to save say, is not the cause. But the errors that Python
    code runs into on purpose (`except KeyError:`) are none.
    """
    kinds = [(kind_of_error(each, known), each) for each in errors]
    oldest_first = kinds[:0:-1]
    for kind, error in oldest_first:
        if kind not in (FailureClass.USER_BUG, FailureClass.COMMUNICATION):
            return kind, error
    if kinds[0][0] not in (FailureClass.USER_BUG, FailureClass.COMMUNICATION):
        return kinds[0]
    for kind, error in oldest_first:
        if not (error.handled and {error.kind, *error.bases} & _ON_PURPOSE):
            return kinds[0] if kind is kinds[0][0] else (kind, error)
    return kinds[0]


def kind_of_error(error: Cause, known: KnownErrors) -> FailureClass:
    """What one exception means, without what it came from."""
    if (kind := _known(error, known)) is not None:
        return kind
    names = {error.kind, *error.bases}
    # A loader worker's error comes with its traceback, in which any file's name may stand.
    text = wrapped_error(error.message) or error.message
    if names & _MEMORY_ERRORS:
        return FailureClass.OUT_OF_MEMORY
    if "KeyboardInterrupt" in names:
        return FailureClass.KILLED
    for about, pattern, kind in _BY_TEXT:
        if names & about and pattern.search(text):
            return kind
    return FailureClass.COMMUNICATION if names & _DISTRIBUTED_ERRORS else FailureClass.USER_BUG


def _known(error: Cause, known: KnownErrors) -> FailureClass | None:
    if error.module:
        return known.get(f"{error.module}.{error.kind}")
    return next((kind for name, kind in known.items() if name.rpartition(".")[2] == error.kind), None)


_MEMORY_ERRORS: Final = frozenset({"OutOfMemoryError", "MemoryError"})
_DISTRIBUTED_ERRORS: Final = frozenset({"DistError", "DistBackendError", "DistNetworkError", "DistStoreError"})
_ON_PURPOSE: Final = frozenset(
    {"LookupError", "AttributeError", "ImportError", "StopIteration", "FileNotFoundError", "Empty", "Full"}
)
_RUNTIME: Final = frozenset({"RuntimeError"}) | _DISTRIBUTED_ERRORS
_SYSTEM: Final = frozenset({"OSError"})


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_CUT_OFF: Final = frozenset({"OSError", "EOFError", "ConnectionResetError", "ConnectionRefusedError"})
_PASSING: Final = re.compile(r"/torch/multiprocessing/reductions\.py")
"""Where a tensor is taken over from another process."""
_KILLED_LOADER: Final = _any(r"DataLoader worker \(pid.*killed by signal: Killed", r"DataLoader worker.*exited unexpec")
_NO_MEMORY: Final = _any(
    r"out of memory", r"can(no|')t allocate memory", r"CU(BLAS|DNN)_STATUS_ALLOC_FAILED", r"std::bad_alloc",
    r"insufficient shared memory", r"out of shared memory", r"killed by signal: Bus error",
    r"(torch_|/dev/)shm.*No space left", r"</?torch_\d.*No space left",
)  # fmt: skip
_BROKEN_HARDWARE: Final = _any(
    r"uncorrectable (ECC|NVLink) error", r"ECC[_ ]UNCORRECTABLE", r"fallen off the bus", r"GPU is lost"
)
_TORN: Final = _any(
    r"gloo/transport", r"connectFullMesh", r"connection (was )?(likely )?(reset|closed|refused|aborted)",
    r"broken pipe", r"socket (closed|timeout)", r"timed? ?out (after|waiting)", r"wait timeout after",
    r"failed to recv", r"failed to pass monitoredBarrier", r"watchdog caught collective", r"NCCL error",
    r"NCCL communicator was aborted", r"ProcessGroup\w+'s watchdog", r"nccl(Remote|System)Error",
)  # fmt: skip

# What is looked for in whose text, in this order.
_BY_TEXT: Final = (
    (_RUNTIME, _BROKEN_HARDWARE, FailureClass.HARDWARE),
    (_RUNTIME, _NO_MEMORY, FailureClass.OUT_OF_MEMORY),
    (_RUNTIME, _any(r"DataLoader timed out"), FailureClass.USER_BUG),
    (_RUNTIME, _any(r"DataLoader worker.*(is killed by signal|exited unexpectedly)"), FailureClass.KILLED),
    # Ranks that were started wrongly, whatever the backend says of it.
    (_RUNTIME, _any(r"Duplicate GPU detected", r"ncclInvalid(Usage|Argument)"), FailureClass.USER_BUG),
    (_RUNTIME, _TORN, FailureClass.COMMUNICATION),
    (_RUNTIME, _any(r"PytorchStreamWriter failed writing", r"inline_container.*unexpected pos"), FailureClass.STORAGE),
    (_SYSTEM, _any(r"\[Errno 12\]", r"\[Errno 28\].*(torch_|/dev/shm)"), FailureClass.OUT_OF_MEMORY),
    (_SYSTEM, _any(r"\[Errno (5|28|30|116|122)\]"), FailureClass.STORAGE),  # I/O, full, read-only, stale, quota.
)


# --- of a crash -------------------------------------------------------------------------------------------------------

_THROWN: Final = re.compile(r"^terminate called after throwing an instance of '(?P<kind>[^'\n]+)'", re.MULTILINE)
_SAYING: Final = re.compile(r"^\s*what\(\):\s*(?P<text>.*)", re.MULTILINE)


def _of_last_words(evidence: ExitEvidence, tail: str) -> Verdict:
    """A process that a C++ exception ends says so on stderr; its launcher sees an abort."""
    what = describe(evidence)
    thrown = list(_THROWN.finditer(tail))
    if signal_of(evidence.returncode) is not signal.SIGABRT or not thrown:
        return Verdict(FailureClass.KILLED, what)
    saying = _SAYING.search(tail, thrown[-1].end())
    words = headline(thrown[-1]["kind"], saying["text"] if saying is not None else "")
    kind = kind_of_error(Cause("RuntimeError", words), {})
    # Nothing is known of an exception of the user's own extension but that it ended the process.
    return Verdict(FailureClass.KILLED if kind is FailureClass.USER_BUG else kind, f"{what}: {words}")
