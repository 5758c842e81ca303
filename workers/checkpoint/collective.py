"""Small messages between the ranks, on the main thread, as bytes and never as pickles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist

from ..errors import BadWorld
from ..origin import origin
from .windows import as_bytes

_CHUNK_BYTES = 16 << 20


def open_control() -> dist.ProcessGroup | None:
    """A gloo group of all ranks for words and votes; None for a single process. A collective.

    Raises:
        BadWorld: there are other ranks, and this process cannot reach them.
    """
    here = origin()
    if here.world_size > 1 and not dist.is_initialized():
        message = (
            f"this is rank {here.rank} of {here.world_size}, and torch.distributed is not initialized: each rank would "
            "save the whole run. Call torch.distributed.init_process_group() before (Lightning Fabric does with as "
            f"many devices: Fabric(devices={here.local_world_size}))"
        )
        raise BadWorld(message)
    group = dist.new_group(backend="gloo") if dist.is_initialized() else None
    assert group is None or isinstance(group, dist.ProcessGroup)
    return group


class Circle:
    """The ranks of a run, for the few words they exchange around a restore and at the end. One rank needs no group.

    `group` is a CPU (gloo) group of all ranks; every method is called by all of them in the same order.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self.rank = dist.get_rank(group) if group is not None else 0
        self.size = dist.get_world_size(group) if group is not None else 1

    def tell(self, message: bytes, source: int = 0) -> bytes:
        """`source`'s message, on every rank; what the other ranks pass is not looked at."""
        if self._group is None:
            return message
        length = torch.tensor([len(message)], dtype=torch.int64)
        dist.broadcast(length, source, group=self._group)
        payload = torch.empty(int(length.item()), dtype=torch.uint8)
        if self.rank == source and message:
            payload.copy_(torch.frombuffer(bytearray(message), dtype=torch.uint8))
        if len(payload):
            dist.broadcast(payload, source, group=self._group)
        return payload.numpy().tobytes()

    def exchange(self, message: str) -> list[str]:
        """Every rank's message, in order of rank, on every rank."""
        return [each.decode() for each in self.gather(message.encode())]

    def gather(self, message: bytes) -> list[bytes]:
        """Every rank's bytes, in order of rank, on every rank."""
        if self._group is None:
            return [message]
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(message)
        dist.all_reduce(lengths, group=self._group)
        width = int(lengths.max())
        if width == 0:
            return [b""] * self.size
        mine = torch.frombuffer(bytearray(message.ljust(width, b"\0")), dtype=torch.uint8)
        rows = [torch.empty(width, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(rows, mine, group=self._group)
        return [row.numpy().tobytes()[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]

    def meet(self) -> None:
        """Returns when every rank has come here."""
        self.exchange("")

    @contextlib.contextmanager
    def rail(self, rails: Sequence[Sequence[int]]) -> Iterator[Rail | None]:
        """The one of `rails` (ranks, disjoint) that this rank is on, while the block runs; None when it is on none.

        All ranks enter, with the same rails, and `meet` before they leave: who leaves closes its connections.
        """
        groups = [dist.new_group(list(ranks), backend="gloo") for ranks in rails]
        mine = next((number for number, ranks in enumerate(rails) if self.rank in ranks), None)
        try:
            yield None if mine is None else Rail(cast(dist.ProcessGroup, groups[mine]), frozenset(rails[mine]))
        finally:
            if mine is not None:
                dist.destroy_process_group(groups[mine])

    def mean(self, value: float) -> float:
        """The mean over the ranks, in double precision."""
        if self._group is None:
            return value
        total = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(total, group=self._group)
        return float(total.item()) / self.size


class Rail:
    """A gloo group of some ranks, to pass many bytes on."""

    def __init__(self, group: dist.ProcessGroup, ranks: frozenset[int]) -> None:
        self.ranks = ranks
        self._group = group
        self._works: list[Any] = []

    def send(self, buffer: memoryview, source: int) -> None:
        """Begin to make `buffer` (the same length everywhere) what rank `source` has in it. `wait` ends it.

        In chunks: those who pass them on to others begin with the first, and do not wait for the last.
        """
        for chunk in as_bytes(buffer).split(_CHUNK_BYTES):
            self._works.append(dist.broadcast(chunk, source, group=self._group, async_op=True))

    def wait(self) -> None:
        """Until all that was begun has arrived."""
        for work in self._works:
            work.wait()
        self._works.clear()
