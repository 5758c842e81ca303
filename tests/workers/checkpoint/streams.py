"""A small stream of records that knows how to be read on by other ranks, and an iterable dataset that does not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import IterableDataset, get_worker_info

from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.parallel import World
from relight.workers.signals import StopFlag

SOURCES = {f"part-{number}.jsonl": 5 + 3 * number for number in range(7)}
"""Records in each file."""


EVERYTHING = sorted(f"{name}:{number}" for name, count in SOURCES.items() for number in range(count))


class FileStream:
    """Reads the files that are dealt to this rank, each from where it was left. An epoch may be gone on from anywhere.

    The state is the records that were read of each of the rank's files. In another world all files are dealt anew.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        self._read = deal(dict.fromkeys(SOURCES, 0), rank, world_size)

    def __iter__(self) -> Iterator[str]:
        for name in sorted(self._read):
            while self._read[name] < SOURCES[name]:
                self._read[name] += 1
                yield f"{name}:{self._read[name] - 1}"

    def state_dict(self) -> dict[str, Any]:
        return {"read": dict(self._read)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._read = dict(state["read"])

    def reshard(self, states: list[dict[str, Any]], rank: int, world_size: int) -> dict[str, Any]:
        read = {name: count for state in states for name, count in state["read"].items()}
        return {"read": deal(read, rank, world_size)}


def deal(read: dict[str, int], rank: int, world_size: int) -> dict[str, int]:
    """Every so many-th file, in an order that all ranks agree on."""
    return {name: read[name] for name in sorted(read)[rank::world_size]}


class Numbers(IterableDataset[int]):
    """0 to `end`, divided over loader workers. Each pass is an iterator of its own, and the position is the pass's."""

    def __init__(self, end: int) -> None:
        self._end = end

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        return Pass(range(self._end)[info.id :: info.num_workers] if info else range(self._end))


class Pass(Iterator[int]):
    def __init__(self, numbers: range) -> None:
        self._numbers = numbers
        self._at = 0

    def __next__(self) -> int:
        if self._at == len(self._numbers):
            raise StopIteration
        self._at += 1
        return self._numbers[self._at - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"at": self._at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._at = state["at"]


class Rigid(FileStream):
    """Has a position, and nothing to say about other ranks'."""

    reshard = None  # type: ignore[assignment]


def open_run(url: Path, loader: Any, world: World | None = None) -> Checkpointer:
    model, control = nn.Linear(1, 1), world.control if world else None
    return Checkpointer(str(url), model=model, loader=loader, control=control, stop=StopFlag())


def reading(world: World, directory: Path) -> list[str]:
    """Each rank reads a few records, the first one fewer than the others, and its position is saved."""
    stream = FileStream(world.rank, world.world_size)
    checkpointer = open_run(directory / "run", stream, world)
    checkpointer.restore()
    seen = list(islice(stream, 7 + 2 * world.rank))
    checkpointer.step()
    checkpointer.finish()
    return seen
