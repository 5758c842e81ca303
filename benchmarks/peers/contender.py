"""What is measured: something that saves the live state and brings it back. One protocol for ours, peers and floors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.distributed as dist

from ..states import Live
from ..stores import is_remote, remove


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender writes: a folder, or a URL, of its own."""

    url: str

    @property
    def remote(self) -> bool:
        return is_remote(self.url)

    def of(self, number: int) -> str:
        """One save's own folder."""
        return f"{self.url}/{number:04d}"


class Contender:
    """Every method is called on all ranks, in the same order; only `save`, `next_step`, `settle` and `load` are timed.

    Save `number` 1, 2, 3, ...; `load` and `drop` are given a number that was saved.
    """

    title: ClassVar[str]
    durable: ClassVar[bool] = False
    """After `settle` the bytes and their names survive a power cut."""
    verifies: ClassVar[bool] = False
    """`load` compares every byte with a checksum."""
    saves: ClassVar[bool] = True
    loads: ClassVar[bool] = True
    overlaps: ClassVar[bool] = False
    """Copies while the training computes; `next_step` is where it waits."""
    note: ClassVar[str] = ""

    def __init__(self, live: Live, place: Place) -> None:
        self.live = live
        self.place = place
        self.rank = dist.get_rank()
        self.ranks = dist.get_world_size()

    def prepare(self, number: int) -> None:
        """What a training would have done since the save before."""

    def save(self, number: int) -> None:
        """Blocks for as long as the training would stand still."""
        raise NotImplementedError

    def next_step(self) -> None:
        """Called when the training has computed for a while and is about to change the state."""

    def settle(self, number: int) -> None:
        """Returns when the save is as durable as this contender makes it."""

    def load(self, number: int) -> None:
        """Into the live state."""
        raise NotImplementedError

    def drop(self, number: int) -> None:
        """Take one save away."""
        if self.rank == 0:
            remove(self.place.of(number))

    def close(self) -> None: ...
