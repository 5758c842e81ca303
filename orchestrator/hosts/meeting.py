"""How the hosts of a run meet, as the launcher's loop sees it: orders without waiting, and news. No torch here."""

from __future__ import annotations

import contextlib
import queue
import socket
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from ..environment import Place
from ..errors import LaunchError
from ..judging.failures import Failure


class Cause(Enum):
    """Why a round of workers ends for all hosts."""

    FAILED = "failed"
    """A host's workers have failed; that host's launcher judges it."""
    JOINING = "joining"
    """A host wants to come in."""
    LEFT = "left"
    """A host was told to stop, and leaves."""
    LOST = "lost"
    """A host, or the rendezvous itself, is silent."""


@dataclass(frozen=True, slots=True)
class Joined:
    place: Place


@dataclass(frozen=True, slots=True)
class Broken:
    """This round is over for all hosts. `host` is the one that said so first, `ours` whether that is this one.

    `failure` is what the failed host's launcher makes of it: the first cause, the same on all hosts.
    """

    reason: str
    cause: Cause = Cause.FAILED
    host: str = ""
    failure: Failure | None = None
    ours: bool = False

    @property
    def gentle(self) -> bool:
        """The workers are well: they may save at a step that all agree on, before they start again together."""
        return self.cause in (Cause.JOINING, Cause.LEFT)

    def __str__(self) -> str:
        return f"{self.host}: {self.reason}" if self.cause in (Cause.FAILED, Cause.LEFT) else self.reason


@dataclass(frozen=True, slots=True)
class AllFinished:
    """The workers of every host have finished."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The next round takes longer to come about, for a reason that the user may want to know."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    error: LaunchError


News = Joined | Broken | AllFinished | Waiting | Refused


@dataclass(frozen=True, slots=True)
class Meeting:
    """How the hosts find each other. `conf` is `--rdzv-conf`; `backend` "" means that this host is alone."""

    backend: str = ""
    endpoint: str = ""
    run_id: str = "none"
    min_nodes: int = 1
    max_nodes: int = 1
    local_addr: str | None = None
    conf: dict[str, Any] = field(default_factory=dict)

    @property
    def wanted(self) -> str:
        """`2`, or `at least 2`: the hosts without which nothing begins."""
        return f"{self.min_nodes}" if self.min_nodes == self.max_nodes else f"at least {self.min_nodes}"

    @property
    def where(self) -> str:
        return f"rendezvous {self.run_id!r} at {self.endpoint or self.backend}"


class Rendezvous(Protocol):
    """`fileno` is readable when `news` has something to tell. Nothing here blocks but `close`.

    While a round lasts `Broken` may come at any time: a gentle one first and another after it, or one that is not
    gentle and then nothing more.
    """

    def fileno(self) -> int: ...

    def news(self) -> list[News]: ...

    def join(self, attempt: int) -> None:
        """Enter the next round; `Joined` or `Refused` follows."""

    def leave(self, reason: str) -> None:
        """Tell the other hosts that this one was told to stop: they go on without it."""

    def accuse(self, failure: Failure) -> None:
        """Our workers have failed. `Broken` follows, with the first cause of all hosts: `ours`, or another's."""

    def finish(self) -> None:
        """Our workers have finished; `AllFinished` follows, or `Broken` when another host needs us again."""

    def close(self, ended_with: int | None = None) -> None:
        """Leave for good. Blocks for seconds at most. With an exit code: the run has ended, for all hosts."""


class Inbox:
    """News from any thread to one loop."""

    def __init__(self) -> None:
        self._readable, self._writable = socket.socketpair()
        self._readable.setblocking(False)
        self._items: queue.SimpleQueue[News] = queue.SimpleQueue()

    def fileno(self) -> int:
        return self._readable.fileno()

    def post(self, item: News) -> None:
        self._items.put(item)
        with contextlib.suppress(OSError):  # Nobody reads any more.
            self._writable.send(b"!")

    def news(self) -> list[News]:
        """The next one, if there is one. Not all: who looks for one kind of news must not lose what comes after it."""
        try:
            self._readable.recv(1)
        except BlockingIOError:
            return []
        return [self._items.get()]

    def shut(self) -> None:
        self._readable.close()
        self._writable.close()
