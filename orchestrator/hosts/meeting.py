"""How the hosts of a run meet, as the launcher's loop sees it: orders without waiting, and news. No torch here."""

from __future__ import annotations

import contextlib
import queue
import socket
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..environment import Place
from ..errors import RendezvousFailed


@dataclass(frozen=True, slots=True)
class Joined:
    place: Place


@dataclass(frozen=True, slots=True)
class Broken:
    """This round is over for all hosts: the workers of one have failed, or a host wants to come in."""

    reason: str


@dataclass(frozen=True, slots=True)
class AllFinished:
    """The workers of every host have finished."""


@dataclass(frozen=True, slots=True)
class Refused:
    error: RendezvousFailed


News = Joined | Broken | AllFinished | Refused


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


class Rendezvous(Protocol):
    """`fileno` is readable when `news` has something to tell. Nothing here blocks but `close`."""

    def fileno(self) -> int: ...

    def news(self) -> list[News]: ...

    def join(self, attempt: int) -> None:
        """Enter the next round; `Joined` or `Refused` follows."""

    def break_up(self, reason: str) -> None:
        """Tell the other hosts that this round is over."""

    def finish(self) -> None:
        """Our workers have finished; `AllFinished` follows, or `Broken` when another host needs us again."""

    def close(self, *, for_all: bool) -> None:
        """Leave for good; `for_all`: nobody may join any more. Blocks for seconds at most."""


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
        try:
            count = len(self._readable.recv(4096))
        except BlockingIOError:
            return []
        return [self._items.get() for _ in range(count)]

    def shut(self) -> None:
        self._readable.close()
        self._writable.close()
