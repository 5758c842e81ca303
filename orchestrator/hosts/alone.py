"""A run on one host."""

from __future__ import annotations

import socket

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # Public, but not in __all__.

from ..environment import Place
from ..errors import RendezvousFailed
from ..judging.failures import Failure
from .elastic import STORE_TROUBLE, serve_store
from .meeting import AllFinished, Broken, Cause, Inbox, Joined, Refused


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
            self._store = serve_store(self._port)
        except STORE_TROUBLE as error:
            self.post(Refused(RendezvousFailed(f"port {self._port} cannot be had for the workers' store: {error}")))
            return
        count = self._processes
        port = self._store.port
        self.post(Joined(Place(0, 1, 0, count, count, self._address, port, attempt, self._incarnation)))

    def leave(self, reason: str) -> None:
        """There is nobody to tell."""

    def accuse(self, failure: Failure) -> None:
        self.post(Broken(failure.what, Cause.FAILED, socket.gethostname(), failure, ours=True))

    def finish(self) -> None:
        self.post(AllFinished())

    def close(self, ended_with: int | None = None) -> None:  # noqa: ARG002  # The protocol's.
        self._store = None
        self.shut()
