"""What launcher and zygote say to each other over their socket: one JSON document a packet.

Launcher to zygote: a `Spawn`, or `{"kill": true}` (SIGKILL to every worker's process group).
Zygote to launcher: `{"ready": [notes]}` once, then `{"spawned": rank, "pid": pid}` with the worker's pidfd attached,
and `{"exited": rank, "status": wait status, "killed": whether we killed it}`.
When the launcher's end closes, the zygote kills everything it started and goes.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

PACKET_BYTES: Final = 1 << 20
"""The most one packet may hold: far above any environment that a command line could carry, too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a worker runs. `kind`: `call` ("package.module:function", returns the exit code), `script` (a path),
    `module` (as `python -m`) or `exec` (any program, through PATH).
    """

    kind: str
    target: str
    argv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spawn:
    """One worker. `environment` comes on top of what the zygote inherited; `stdout` and `stderr` name files that
    are appended to, None leaves the launcher's.
    """

    rank: int
    entry: Entry
    environment: Mapping[str, str]
    stdout: str | None = None
    stderr: str | None = None

    def to_document(self) -> dict[str, Any]:
        return {"spawn": asdict(self)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Spawn:
        fields = dict(document["spawn"])
        entry = fields.pop("entry")
        return cls(entry=Entry(entry["kind"], entry["target"], tuple(entry["argv"])), **fields)


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends, with room for one packet of the largest size if the kernel grants it."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET_BYTES)
    return ends


def send(end: socket.socket, document: Mapping[str, Any], descriptor: int | None = None) -> None:
    packet = json.dumps(document).encode()
    if descriptor is None:
        end.send(packet)
    else:
        socket.send_fds(end, [packet], [descriptor])


def receive(end: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next document and the descriptors that came with it; EOFError when the other end is closed."""
    packet, descriptors, _, _ = socket.recv_fds(end, PACKET_BYTES, 1)
    if not packet:
        raise EOFError
    document: dict[str, Any] = json.loads(packet)
    return document, descriptors
