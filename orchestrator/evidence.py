"""What bears witness of a failure beside the ranks' own reports: log files, the kernel's count, the user's rules."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from . import preflight
from .judging.failures import ExitEvidence, Failure
from .judging.kinds import Surroundings
from .judging.rules import TAIL_BYTES, Rule, first_match
from .kernel import oom_kills

if TYPE_CHECKING:
    from .streams import Streams

_MATCHING_DEADLINE_S: Final = 2.0


class Witness:
    """Of one launcher's workers. Reads what they have left; decides nothing."""

    def __init__(self, streams: Streams, rules: Sequence[Rule], say: Callable[[str], None]) -> None:
        self._streams = streams
        self._rules = rules
        self._say = say
        self._known_errors = preflight.storage_errors()
        self._oom_kills = oom_kills()
        self._first_rank = 0

    def surroundings(self, evidence: Sequence[ExitEvidence], attempt: int) -> Surroundings:
        """Once for each attempt, when all its workers have ended."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        self._first_rank = min((each.rank for each in evidence), default=0)
        crashed = [each.rank for each in evidence if each.report is None and each.failed_by_itself]
        self._keep_tracebacks(evidence, attempt)
        return Surroundings(
            known_errors=self._known_errors,
            oom_kills=self._oom_kills - before,
            tails={rank: "\n".join(self._tails(rank, attempt)) for rank in crashed},
        )

    def logs(self, rank: int, attempt: int) -> tuple[str, ...]:
        """The files that this rank of the last attempt has written to."""
        files = self._streams.files(rank - self._first_rank, attempt)
        return tuple(path for path in files if path is not None and path != os.devnull)

    def rule_for(self, failure: Failure, attempt: int) -> Rule | None:
        """The user's rule that matches. One that takes for ever is told of, and then none does."""
        if not self._rules:
            return None
        try:
            with _deadline(_MATCHING_DEADLINE_S):
                return first_match(self._rules, failure, self._tails(failure.rank, attempt))
        except TimeoutError:
            self._say(f"restart.rules took more than {_MATCHING_DEADLINE_S:g} s to match and are left out this time")
            return None

    def _tails(self, rank: int, attempt: int) -> list[str]:
        return [_tail(Path(path)) for path in self.logs(rank, attempt)]

    def _keep_tracebacks(self, evidence: Sequence[ExitEvidence], attempt: int) -> None:
        """One is shown on the terminal; in its own log file each rank has its own."""
        for each in evidence:
            _, stderr = self._streams.files(each.rank - self._first_rank, attempt)
            if each.report is not None and each.report.traceback and stderr not in (None, os.devnull):
                with (
                    contextlib.suppress(OSError),
                    Path(stderr).open("a", encoding="utf-8") as file,
                ):  # A full disk, say.
                    file.write(each.report.traceback)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """TimeoutError in the block when it takes longer: Python's regular expressions look for signals while they match.

    Only in the main thread; elsewhere the block takes as long as it takes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, timer = signal.signal(signal.SIGALRM, _late), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def _late(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError
