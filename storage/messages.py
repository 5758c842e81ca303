"""What a trainer and its persister's process say to each other over their socket: one JSON document a packet.

Trainer to persister, in the order of the calls:

    opened      first of all: the storage's URL, the rank, and what this worker group has committed and not deleted
    errand      one staged shard, to be sealed and, if `durable`, persisted; the memory's descriptor comes with it
    called_off  the other ranks' part of a save will not come

Persister to trainer, about the errand of that `number`:

    released    its memory is not read any more
    ended       a save's outcome; once for each save, in their order
    finished    nothing more is done for a save, and retention has `deleted` these checkpoints

When the trainer's end closes, or the trainer dies, the persister does what it was sent and goes. A document that is too
large for a packet comes in memory of its own, whose descriptor is the first one attached to an empty document.
"""

from __future__ import annotations

import array
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from .commit import SaveJob
from .errors import StorageError
from .layout import AttemptId
from .mappings import Identity
from .persist import Outcome

IGNORED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A persister does not end by these: it has a trainer, who is told too and may want a last save, or a save to finish.

They are blocked when it is started, until it ignores them."""

_PACKET_BYTES: Final = 32 << 10
"""So that the kernel's usual buffer (208 KiB) has room for several."""
_ELSEWHERE: Final = b"{}"
_MOST_DESCRIPTORS: Final = 2


class BadMessage(StorageError):
    """The other end of the socket does not speak this protocol."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Opened(_Message):
    kind: Literal["opened"] = "opened"
    url: str
    rank: int
    own: tuple[AttemptId, ...]


class Sent(_Message):
    """`size` in bytes; `living` is all the memory that the trainer has not let go of."""

    kind: Literal["errand"] = "errand"
    number: int
    job: SaveJob
    size: int
    seal: Path | None
    durable: bool
    living: tuple[Identity, ...]


class CalledOff(_Message):
    kind: Literal["called_off"] = "called_off"
    number: int
    reason: str


class Released(_Message):
    kind: Literal["released"] = "released"
    number: int


class Ended(_Message):
    kind: Literal["ended"] = "ended"
    number: int
    outcome: Outcome


class Finished(_Message):
    kind: Literal["finished"] = "finished"
    number: int
    deleted: tuple[AttemptId, ...]


Message = Opened | Sent | CalledOff | Released | Ended | Finished
_MESSAGES: Final[TypeAdapter[Message]] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Raises OSError: BrokenPipeError or ConnectionResetError when the other end is closed."""
    with ExitStack() as stack:
        packet = message.model_dump_json().encode()
        if len(packet) > _PACKET_BYTES:
            large = os.memfd_create("relight-message", os.MFD_CLOEXEC)
            stack.callback(os.close, large)
            with os.fdopen(large, "wb", closefd=False) as file:
                file.write(packet)
            packet, descriptors = _ELSEWHERE, [large, *descriptors]
        # No signal where the other end is gone: SIGPIPE is ignored by Python, but a script may have asked for it back.
        end.sendmsg([packet], [_attached(descriptors)] if descriptors else [], socket.MSG_NOSIGNAL)


def _attached(descriptors: Sequence[int]) -> tuple[int, int, bytes]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes()


def receive(end: socket.socket) -> tuple[Message, list[int]]:
    """The next message and the descriptors that came with it, which are the caller's to close.

    Raises:
        EOFError: the other end is closed, and everything it has said was received.
        BlockingIOError: there is nothing to receive now, where `end` does not block.
        BadMessage: what came is none. Nothing more can be understood then.
    """
    packet, descriptors, flags, _ = socket.recv_fds(end, _PACKET_BYTES, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    try:
        if not packet:
            raise EOFError  # noqa: TRY301  (nothing that came stays open)
        return _parse(packet, descriptors, cut=bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _parse(packet: bytes, descriptors: list[int], *, cut: bool) -> Message:
    if cut:
        raise BadMessage("a packet is larger than any of ours")
    if packet == _ELSEWHERE and descriptors:
        with os.fdopen(descriptors.pop(0), "rb") as large:
            packet = os.pread(large.fileno(), os.fstat(large.fileno()).st_size, 0)
    try:
        return _MESSAGES.validate_json(packet)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise BadMessage(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None
