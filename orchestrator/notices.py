"""Signals to the launcher. A handler does nothing but wake the loop, which asks here what came."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final, Protocol

from .errors import Stopped

ALWAYS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})


class Notices:
    """Receives SIGTERM, SIGUSR1 and SIGINT, and what else is asked for, but nothing that the launcher was started to
    ignore (`nohup`). `fileno` is readable when a signal has come.
    """

    def __init__(self) -> None:
        self._readable, self._writable = socket.socketpair()
        self._readable.setblocking(False)
        self._writable.setblocking(False)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup = signal.set_wakeup_fd(self._writable.fileno(), warn_on_full_buffer=False)
        self.listen(ALWAYS)

    def listen(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            if number not in self._before and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, _nothing)

    def fileno(self) -> int:
        return self._readable.fileno()

    def take(self) -> list[signal.Signals]:
        """The signals that came since the last call, in their order."""
        try:
            numbers = self._readable.recv(4096)
        except BlockingIOError:
            return []
        # Python tells of every signal that anybody in this process has a handler for.
        return [signal.Signals(number) for number in numbers if number in self._before]

    def stop_if_asked(self) -> None:
        """Where no worker is running that would have to be told first. Raises Stopped when a signal has come."""
        for number in self.take():
            raise Stopped(f"stopped by {number.name} while no worker was running: run the same command again")

    def close(self) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._readable.close()
        self._writable.close()


class Source(Protocol):
    """Something that becomes readable when there is news."""

    def fileno(self) -> int: ...


def wait_for_any(*sources: Source, timeout_s: float | None = None) -> None:
    """Until one of them has news, or for `timeout_s` seconds."""
    select.select(sources, [], [], timeout_s)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Python writes the number to the wakeup socket; there is nothing else to do here."""
