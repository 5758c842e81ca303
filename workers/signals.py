"""Told to stop: a notice sets a flag, and the loop looks at the flag between two steps. A handler does nothing else.

Saving inside a handler deadlocks: it interrupts a step, and the other ranks are not in theirs.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

NOTICES: Final = (signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """True once SIGTERM or SIGUSR1 has come. A context manager: the handlers before it come back after it.

    In the main thread alone, which is Python's rule for signal handlers; elsewhere it stays down. SIGINT stays as it
    is: under a launcher Ctrl-C does not reach the workers, and elsewhere it means what it means everywhere.

    Of several that are in place at once (a cell of a notebook that was run again) the last one has the handlers, and
    tells the others.
    """

    def __init__(self) -> None:
        self._noticed: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._others: set[StopFlag] = set()

    def __bool__(self) -> bool:
        return self._noticed is not None

    @property
    def noticed(self) -> signal.Signals | None:
        """The first notice that came."""
        return self._noticed

    def __enter__(self) -> Self:
        self._noticed = None
        if not self._before and threading.current_thread() is threading.main_thread():
            self._before = {number: self._take_over(number) for number in NOTICES}
        return self

    def _take_over(self, number: signal.Signals) -> Any:
        """The handler that comes back in the end: not one of another flag, which may be long forgotten then."""
        before = signal.signal(number, self._notice)
        other = getattr(before, "__self__", None)
        if not isinstance(other, StopFlag):
            return before
        self._others.add(other)
        return other._before.get(number, signal.SIG_DFL)  # noqa: SLF001 -- one of this class

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._notice:
                signal.signal(number, handler)
        self._before = {}
        self._others.clear()

    def _notice(self, number: int, _frame: FrameType | None) -> None:
        self._noticed = self._noticed or signal.Signals(number)
        for other in self._others:
            other._noticed = other._noticed or self._noticed  # noqa: SLF001 -- one of this class


def outlive_notice(_worker_id: int = 0) -> None:
    """DataLoader's `worker_init_fn`: a notice that goes to the whole process group must not kill the loader first.

    The first SIGTERM to a loader worker is taken for the notice; its trainer, told as well, decides when it ends. A
    second one ends it, or an interpreter that leaves with its workers still running would wait for them for ever.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _next_one_ends)


def _next_one_ends(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
