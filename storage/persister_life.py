"""One life of a persister's process, as its trainer sees it: how it begins, and how it has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from . import messages
from .living import Living

_DYING_S: Final = 5.0
"""Between the end of its socket and its own a process needs a moment."""


@dataclass(frozen=True, slots=True)
class Life:
    """`end` is the trainer's end of the socket, which never blocks; `living` the process's own file."""

    process: subprocess.Popen[bytes]
    end: socket.socket
    living: Path

    @classmethod
    def begin(cls, url: str, rank: int) -> Self:
        """Start one, and wait for nothing. Raises OSError where there is no room for another process."""
        living = Living.announce(url, rank)
        with contextlib.ExitStack() as undo:
            undo.callback(living.end)
            ours, theirs = messages.pair()
            with theirs:
                undo.callback(ours.close)
                ours.setblocking(False)
                process = _run(theirs.fileno(), living.descriptor)
            undo.pop_all()
            living.leave()
            return cls(process, ours, living.path)

    def send(self, message: messages.Message, *descriptors: int) -> None:
        """Raises OSError: BlockingIOError when its inbox is full, ConnectionError when it is dead."""
        messages.send(self.end, message, descriptors)

    def finish(self) -> None:
        """Nothing more will be sent; from here on `end` blocks, until everything is done and said."""
        with contextlib.suppress(OSError):
            self.end.shutdown(socket.SHUT_WR)  # To close it would not do: all that this process has forked holds it.
        self.end.setblocking(True)

    def abandon(self) -> None:
        """Nobody listens any more: it does what it was sent, and goes."""
        self.end.close()
        threading.Thread(target=self.process.wait, name="relight-reaper", daemon=True).start()

    def bury(self) -> str:
        """When its end has closed its socket: leave nothing of it, and say how it has ended. Empty: as it should."""
        self.end.close()
        try:
            code = self.process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.living.unlink(missing_ok=True)
        if code < 0:
            return f"died of {signal.Signals(-code).name}"
        return f"ended with exit code {code}" if code else ""


def _run(end: int, living: int) -> subprocess.Popen[bytes]:
    with _signals_blocked():
        return subprocess.Popen(
            # Not from the current folder: a script's own `queue.py` is none of ours.
            [sys.executable, "-P", "-m", f"{__package__}.persister_main", str(end), str(living), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=[end, living],
            start_new_session=True,  # The launcher ends its workers with all that lives in their groups.
        )


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """A host that is shut down in this moment must not end a process that will ignore it in the next."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, messages.IGNORED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
