"""The workers of this host, in the launcher's hands: start them, hear of their ends, signal them, end them.

They are children of the zygote, which is ours. Nothing here blocks, but where it says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ZygoteDied
from .spawning import Spawn, pair, receive, send

_CLOSE_DEADLINE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Exit:
    """`returncode` is the exit code, or minus the signal's number. `killed_by_us`: it still ran when we killed all."""

    rank: int
    pid: int
    returncode: int
    at_ns: int
    killed_by_us: bool


@dataclass(slots=True)
class _Worker:
    pid: int
    pidfd: int


@dataclass(slots=True)
class Group:
    """`environment` is the launcher's own, which the zygote and so all workers inherit.

    The zygote starts at once, so that its imports overlap with the launcher's. `notes` is told what it could not
    import, once.
    """

    environment: Mapping[str, str]
    notes: Callable[[Sequence[str]], None] = lambda _: None
    _zygote: subprocess.Popen[bytes] = field(init=False)
    _end: socket.socket = field(init=False)
    _ready: bool = field(init=False, default=False)
    _lost: bool = field(init=False, default=False)
    _pending: list[Spawn] = field(init=False, default_factory=list)
    _workers: dict[int, _Worker] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._start_zygote()

    def fileno(self) -> int:
        """Readable when `exits` has something to do."""
        return self._end.fileno()

    @property
    def running(self) -> frozenset[int]:
        """Ranks that were started, or are about to be, and have not ended."""
        return frozenset(self._workers) | {spawn.rank for spawn in self._pending}

    @property
    def started(self) -> bool:
        """Every worker that was asked for has been born."""
        return not self._pending

    def pids(self) -> dict[int, int]:
        return {rank: worker.pid for rank, worker in self._workers.items()}

    def start(self, spawns: Sequence[Spawn]) -> None:
        """Ask for these workers; they are born as soon as the zygote is ready. A dead zygote is replaced.

        Raises:
            ZygoteDied: it cannot be started.
        """
        if self._zygote.poll() is not None:
            self._replace_zygote()
        self._pending = list(spawns)
        if self._ready:
            self._send_pending()

    def exits(self) -> list[Exit]:
        """Workers that have ended since the last call.

        Raises:
            ZygoteDied: the zygote ended before it could start a worker; its own words are on stderr.
        """
        ended: list[Exit] = []
        while not self._lost:
            try:
                document, descriptors = receive(self._end)
            except BlockingIOError:
                return ended
            except (EOFError, ConnectionError):
                return ended + self._zygote_lost()
            ended += self._hear(document, descriptors)
        return ended

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to the trainer alone: what it started, loader workers above all, is its own to end."""
        worker = self._workers.get(rank)
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker.pidfd, number)

    def kill(self) -> None:
        """SIGKILL to all workers with all that lives in their process groups; their exits follow."""
        if not self._ready:
            self._pending = []  # Never sent. Those that were sent are born first and killed then.
        with contextlib.suppress(ConnectionError):  # A dead zygote has taken them with it.
            send(self._end, {"kill": True})

    def close(self) -> None:
        """End everything and wait for it. Blocks for milliseconds, for 5 s at the very worst."""
        self._end.close()  # The zygote ends its workers and goes.
        try:
            self._zygote.wait(_CLOSE_DEADLINE_S if self._ready else 0)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()
        self._forget_workers()

    def _start_zygote(self) -> None:
        ours, theirs = pair()
        command = [sys.executable, "-u", "-P", "-m", f"{__package__}.zygote", str(theirs.fileno())]
        with theirs:
            self._zygote = subprocess.Popen(
                command,
                env=dict(self.environment),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal is for the launcher alone.
            )
        ours.setblocking(False)
        self._end = ours
        self._ready = self._lost = False

    def _replace_zygote(self) -> None:
        self._end.close()
        self._forget_workers()
        self._start_zygote()

    def _send_pending(self) -> None:
        self._end.setblocking(True)  # Its inbox holds a few packets only, and it reads them at once.
        try:
            for spawn in self._pending:
                send(self._end, spawn.to_document())
        except ConnectionError:
            return  # It died: the next read says so.
        finally:
            self._end.setblocking(False)

    def _hear(self, document: Mapping[str, Any], descriptors: list[int]) -> list[Exit]:
        if "ready" in document:
            self._ready = True
            if document["ready"]:
                self.notes(document["ready"])
            self._send_pending()
        elif "spawned" in document:
            rank = document["spawned"]
            self._workers[rank] = _Worker(document["pid"], descriptors[0])
            self._pending = [spawn for spawn in self._pending if spawn.rank != rank]
        else:
            returncode = os.waitstatus_to_exitcode(document["status"])
            return [self._ended(document["exited"], returncode, killed_by_us=document["killed"])]
        return []

    def _ended(self, rank: int, returncode: int, *, killed_by_us: bool) -> Exit:
        worker = self._workers.pop(rank)
        os.close(worker.pidfd)
        return Exit(rank, worker.pid, returncode, time.monotonic_ns(), killed_by_us)

    def _zygote_lost(self) -> list[Exit]:
        """Its workers died with it, by the kernel's hand; nobody knows their exit codes any more."""
        code = self._zygote.wait()
        if not self._ready:
            raise ZygoteDied(f"the process that starts the workers ended with exit code {code}; see above for why")
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
        unborn = [Exit(spawn.rank, -1, -signal.SIGKILL, time.monotonic_ns(), False) for spawn in self._pending]
        self._pending = []
        self._lost = True
        return unborn + [self._ended(rank, -signal.SIGKILL, killed_by_us=False) for rank in list(self._workers)]

    def _forget_workers(self) -> None:
        for worker in self._workers.values():
            os.close(worker.pidfd)
        self._workers.clear()
