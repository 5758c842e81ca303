"""Where this host stands in the world of an attempt, found alone or together with the other hosts.

Meeting other hosts is torch elastic's rendezvous. What is ours: the workers of every attempt get a store of their own.
(With a store that is used again, restarted workers read the keys of the dead and hang.) And a host whose workers are
well hears at once that another host's are not.

Waiting for other hosts may take minutes, so it is done by a thread, and the launcher's loop reads the outcome as news.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # Public, but not in __all__.
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousError,
    RendezvousHandler,
    RendezvousParameters,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from ..environment import Place
from ..errors import RendezvousFailed
from .meeting import AllFinished, Broken, Inbox, Joined, Meeting, Refused, Rendezvous

_LOOK_EVERY_S: Final = 0.25
_EXCHANGE_TIMEOUT: Final = timedelta(seconds=60)
_FAREWELL_S: Final = 2.0
_STORE_TROUBLE: Final = (RendezvousError, RuntimeError, OSError, ValueError)


class Alone(Inbox):
    """One host needs nobody. `port` 0 takes a free one."""

    def __init__(self, incarnation: str, processes: int, *, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self._incarnation = incarnation
        self._processes = processes
        self._address = address
        self._port = port
        self._store: TCPStore | None = None

    def join(self, attempt: int) -> None:
        self._store = None  # The last attempt's must have let go of the port.
        try:
            self._store = _serve_store(self._port)
        except _STORE_TROUBLE as error:
            self.post(Refused(RendezvousFailed(f"port {self._port} cannot be had for the workers' store: {error}")))
            return
        count = self._processes
        port = self._store.port
        self.post(Joined(Place(0, 1, 0, count, count, self._address, port, attempt, self._incarnation)))

    def break_up(self, reason: str) -> None:
        """There is nobody to tell."""

    def finish(self) -> None:
        self.post(AllFinished())

    def close(self, *, for_all: bool) -> None:  # noqa: ARG002  # The protocol's.
        self._store = None
        self.shut()


class Together(Inbox):
    """Several hosts, or one that was told to meet others: a torch elastic rendezvous, kept over attempts."""

    def __init__(self, incarnation: str, processes: int, meeting: Meeting) -> None:
        super().__init__()
        self._incarnation = incarnation
        self._processes = processes
        self._meeting = meeting
        self._handler: RendezvousHandler | None = None
        self._round = 0
        self._board: PrefixStore | None = None
        self._group = (0, 1)
        self._store: TCPStore | None = None
        self._watching = self._finishing = False
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="rendezvous", daemon=True).start()

    def join(self, attempt: int) -> None:
        self._orders.put(lambda: self._join(attempt))

    def break_up(self, reason: str) -> None:
        self._orders.put(lambda: self._break_up(reason))

    def finish(self) -> None:
        self._orders.put(self._finish)

    def close(self, *, for_all: bool) -> None:
        if for_all:
            closed = threading.Event()
            self._orders.put(self._close)
            self._orders.put(closed.set)
            closed.wait(_FAREWELL_S)
        self.shut()

    def _serve(self) -> None:
        """The thread: everything below runs in it, so the stores have one user."""
        while True:
            try:
                order = self._orders.get(timeout=_LOOK_EVERY_S if self._watching else None)
            except queue.Empty:
                order = self._look
            try:
                order()
            except _STORE_TROUBLE as error:
                self._lost(error)

    def _lost(self, error: Exception) -> None:
        if self._finishing:
            # The host of the rendezvous left first, and it leaves when all have finished.
            self.post(AllFinished())
        elif not self._watching:
            self.post(Refused(_translate(error, self._meeting)))
        # Otherwise our own workers will notice what it means for them.
        self._watching = self._finishing = False

    def _join(self, attempt: int) -> None:
        self._watching = self._finishing = False
        self._handler = self._handler or _handler_for(self._meeting)
        info = self._handler.next_rendezvous()
        self._group = info.rank, info.world_size
        self._round += 1
        # The static rendezvous hands out the same store every time; the dynamic one prefixes it with its own round.
        own_round = self._round if self._handler.get_backend() == "static" else 0
        self._board = PrefixStore(f"relight/{own_round}", info.store)
        place = self._exchange(self._board, attempt)
        self._watching = True
        self.post(Joined(place))

    def _exchange(self, board: PrefixStore, attempt: int) -> Place:
        rank, hosts = self._group
        mine = {"processes": self._processes, "attempt": attempt, "incarnation": self._incarnation}
        if rank == 0:
            self._store = _serve_store(0)
            mine |= {"address": _own_address(self._meeting), "port": self._store.port}
        board.set(f"host/{rank}", json.dumps(mine))
        keys = [f"host/{each}" for each in range(hosts)]
        board.wait(keys, _EXCHANGE_TIMEOUT)
        theirs = [json.loads(board.get(key)) for key in keys]
        counts = [each["processes"] for each in theirs]
        first = theirs[0]
        return Place(
            group_rank=rank,
            group_world_size=hosts,
            first_rank=sum(counts[:rank]),
            world_size=sum(counts),
            local_world_size=self._processes,
            master_addr=first["address"],
            master_port=first["port"],
            attempt=first["attempt"],
            incarnation=first["incarnation"],
        )

    def _break_up(self, reason: str) -> None:
        watched, self._watching = self._watching, False
        if watched and self._board is not None:
            self._board.set("broken", f"{socket.gethostname()}: {reason}")

    def _finish(self) -> None:
        self._finishing = self._watching = True
        assert self._board is not None
        self._board.set(f"finished/{self._group[0]}", "")
        self._look()

    def _look(self) -> None:
        board, handler = self._board, self._handler
        assert board is not None
        assert handler is not None
        if self._finishing and board.check([f"finished/{each}" for each in range(self._group[1])]):
            self._watching = False
            handler.shutdown()
            self._see_all_off(board)
            self.post(AllFinished())
        elif board.check(["broken"]):
            self._watching = False
            self.post(Broken(board.get("broken").decode()))
        elif handler.num_nodes_waiting() > 0:
            self._watching = False
            self.post(Broken("another host is waiting to come in"))

    def _see_all_off(self, board: PrefixStore) -> None:
        """Whoever hosts the rendezvous must not go before the others have read that all is done."""
        deadline = time.monotonic() + _FAREWELL_S
        pause = threading.Event()
        left = board.add("left", 1)
        while left < self._group[1] and time.monotonic() < deadline:
            pause.wait(0.02)
            left = board.add("left", 0)

    def _close(self) -> None:
        self._watching = False
        if self._handler is not None:
            self._handler.shutdown()


def _serve_store(port: int) -> TCPStore:
    """A store of our own that listens on every interface; nobody is waited for."""
    return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)


def _handler_for(meeting: Meeting) -> RendezvousHandler:
    parameters = RendezvousParameters(
        backend=meeting.backend,
        endpoint=meeting.endpoint,
        run_id=meeting.run_id,
        min_nodes=meeting.min_nodes,
        max_nodes=meeting.max_nodes,
        local_addr=meeting.local_addr,
        **meeting.conf,
    )
    return get_rendezvous_handler(parameters)


def _own_address(meeting: Meeting) -> str:
    """How the other hosts reach this one. An endpoint on the loopback means that there are no other machines."""
    host = meeting.endpoint.rpartition(":")[0] or meeting.endpoint
    if host in {"localhost", "127.0.0.1", "::1", "[::1]"}:
        return "127.0.0.1"
    return meeting.local_addr or socket.getfqdn()


def _translate(error: Exception, meeting: Meeting) -> RendezvousFailed:
    where = f"rendezvous {meeting.run_id!r} at {meeting.endpoint or meeting.backend}"
    if isinstance(error, RendezvousClosedError):
        return RendezvousFailed(f"{where} is closed: another host has ended this run")
    if isinstance(error, RendezvousTimeoutError):
        wanted = f"{meeting.min_nodes}" if meeting.min_nodes == meeting.max_nodes else f"at least {meeting.min_nodes}"
        return RendezvousFailed(f"{where}: {wanted} hosts are needed and did not come in time")
    cause = error.__cause__ or error
    return RendezvousFailed(f"{where} failed: {type(cause).__name__}: {cause}")


def for_meeting(meeting: Meeting, incarnation: str, processes: int, address: str, port: int) -> Rendezvous:
    """`address` and `port` are where the workers' store of a lone host is reached."""
    if not meeting.backend:
        return Alone(incarnation, processes, address=address, port=port)
    return Together(incarnation, processes, meeting)
