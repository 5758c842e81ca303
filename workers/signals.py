"""Told to stop: a notice sets a flag, and the loop looks at the flag between two steps. A handler does nothing else.

Saving inside a handler deadlocks: it interrupts a step, and the other ranks are not in theirs.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Final, Self

NOTICES: Final = (signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """True once SIGTERM or SIGUSR1 has come. A context manager: the handlers before it come back after it.

    Main thread only, which is Python's rule for signal handlers. SIGINT stays as it is: under a launcher Ctrl-C does
    not reach the workers, and under plain torchrun it means what it means everywhere.
    """

    def __init__(self) -> None:
        self._noticed: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self._noticed is not None

    @property
    def noticed(self) -> signal.Signals | None:
        """The first notice that came."""
        return self._noticed

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._notice) for number in NOTICES}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, _frame: FrameType | None) -> None:
        self._noticed = self._noticed or signal.Signals(number)


def outlive_notice(_worker_id: int = 0) -> None:
    """DataLoader's `worker_init_fn`: a notice that goes to the whole process group must not kill the loader first.

    The first SIGTERM to a loader worker is taken for the notice; its trainer, told as well, decides when it ends. A
    second one ends it, or an interpreter that leaves with its workers still running would wait for them for ever.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _next_one_ends)


def _next_one_ends(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
