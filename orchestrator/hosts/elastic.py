"""Torch elastic's rendezvous: made with settings that notice a lost host in seconds, its errors in our words."""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import timedelta
from typing import Any, Final

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # Public, not in __all__.
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousGracefulExitError,
    RendezvousHandler,
    RendezvousParameters,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend, create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from ..errors import HostsMissing, LaunchError, RendezvousFailed
from .addresses import is_own
from .meeting import Meeting

STORE_TROUBLE: Final = (RendezvousError, RuntimeError, OSError, ValueError)
"""What a store and the rendezvous on it raise when they cannot be reached, and when they are misused."""
CONNECTION_LOST: Final = (RendezvousConnectionError, RuntimeError, OSError)
CLOSED: Final = (RendezvousClosedError, RendezvousGracefulExitError)
OPERATION_S: Final = 20.0
"""The most that a host which has come may keep the others waiting for its first words."""
_JOIN_S: Final = 600.0
_DEFAULTS: Final = {
    # Torch's own take a host for dead after 15 s, and wait 30 s for more hosts whenever there could be more.
    "keep_alive_interval": "1",
    "keep_alive_max_attempt": "5",
    # A waiting host looks once a second: one that comes back with the others must not be missed.
    "last_call_timeout": "2",
}


def join_timeout_s(meeting: Meeting) -> float:
    """How long a host waits for the others, `--rdzv-conf=join_timeout=...`."""
    return float(meeting.conf.get("join_timeout", _JOIN_S))


def open_handler(meeting: Meeting) -> tuple[RendezvousHandler, Store | None]:
    """The rendezvous, and the store it is held in where that can be had before the hosts have met.

    Raises as `STORE_TROUBLE`.
    """
    # The store that torch would make for the workers is not used; without it a host that comes later need not wait for
    # the first host to put up an address that it has put up long ago.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    parameters = RendezvousParameters(
        backend=meeting.backend,
        endpoint=meeting.endpoint,
        run_id=meeting.run_id,
        min_nodes=meeting.min_nodes,
        max_nodes=meeting.max_nodes,
        local_addr=meeting.local_addr,
        **_settings(meeting),
    )
    if meeting.backend != "c10d":
        return get_rendezvous_handler(parameters), None
    backend, store = _backend_of(parameters)
    store.set_timeout(timedelta(seconds=OPERATION_S))
    return create_handler(store, backend, parameters), PrefixStore(f"relight/{meeting.run_id}", store)


def _backend_of(parameters: RendezvousParameters) -> tuple[C10dRendezvousBackend, Store]:
    try:
        return create_backend(parameters)
    except socket.gaierror:
        # To find out whether the endpoint is this host, torch asks for the address of this host's name, and there is
        # no such entry. Another launcher of this host may serve the store already.
        if is_own(parameters.endpoint):
            parameters.config["is_host"] = True
            with contextlib.suppress(RendezvousConnectionError):
                return create_backend(parameters)
        parameters.config["is_host"] = False
        return create_backend(parameters)


def _settings(meeting: Meeting) -> dict[str, Any]:
    return {**_DEFAULTS, **meeting.conf} if meeting.backend != "static" else dict(meeting.conf)


def serve_store(port: int) -> TCPStore:
    """A store of our own that listens on every interface; nobody is waited for."""
    return TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)


def translate(error: Exception, meeting: Meeting, *, met: bool) -> LaunchError:
    """`met`: there was a round already, so there is something to come back to."""
    if isinstance(error, CLOSED):
        return RendezvousFailed(f"{meeting.where} is closed: another host has ended this run")
    if isinstance(error, RendezvousTimeoutError):
        message = f"{meeting.where}: {meeting.wanted} hosts are needed and did not come in time"
        return HostsMissing(f"{message}; run the same command again") if met else RendezvousFailed(message)
    cause = error.__cause__ or error
    message = f"{meeting.where} failed: {type(cause).__name__}: {cause}"
    return HostsMissing(f"{message}; run the same command again") if met else RendezvousFailed(message)


def out_of_reach(meeting: Meeting) -> str:
    held_in_file = str(meeting.conf.get("store_type", "")) == "file"
    line = f"{meeting.where} is lost; it is tried again for {join_timeout_s(meeting):g} s"
    hint = ". With --rdzv-conf=store_type=file and a path in a shared directory as the endpoint it needs no host"
    return line if held_in_file else line + hint
