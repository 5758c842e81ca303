"""What ranks do in test_restores.py. Played by real ranks (tests/workers/ranks.py), on hosts that are told apart."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from relight.storage.backends.local import LocalBackend
from relight.storage.shared_memory import SharedMemory
from relight.tests.workers.checkpoint import states
from relight.workers.checkpoint.applying import Fitting
from relight.workers.checkpoint.assigning import Parcel
from relight.workers.checkpoint.blank import Blank
from relight.workers.checkpoint.collective import Circle, Rail
from relight.workers.checkpoint.remembering import Remembered
from relight.workers.checkpoint.restoring import Found, find
from relight.workers.checkpoint.sharing import Sharing, Shelf
from relight.workers.errors import StorageTrouble
from relight.workers.parallel import World

NOBODY = 65534
_PR_SET_DUMPABLE = 4


class Counting(LocalBackend):
    """Counts the bytes that are read from shards."""

    read_bytes = 0

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        got = super().read_into(key, start, buffer)
        if key.endswith(".safetensors"):
            self.read_bytes += got
        return got


class Watched(Circle):
    """Knows how often bytes were sent from host to host."""

    def __init__(self, world: World) -> None:
        super().__init__(world.control)
        self.rails: list[list[int]] = []

    @contextlib.contextmanager
    def rail(self, rails: Sequence[Sequence[int]]) -> Iterator[Rail | None]:
        self.rails += map(list, rails)
        with super().rail(rails) as mine:
            yield mine


def everywhere(world: World, directory: Path) -> list[dict[str, Any]]:
    """Each of the ways in `directory`: a saved run, and the host of every rank."""
    warnings.simplefilter("error")
    ways = json.loads((directory / "ways.json").read_text())
    return [_restore(world, directory / way["run"], way["hosts"][world.rank]) for way in ways]


def _restore(world: World, url: Path, host: str) -> dict[str, Any]:
    backend, circle = Counting(url), Watched(world)
    sharing = Sharing(circle, host=host)
    parts = states.parts(world.rank, steps=0)
    fitting = Fitting(parts, circle.rank, circle.size)
    found = find(backend, circle, sharing=sharing, prepare=fitting.prepare)
    assert found is not None
    _apply(found, fitting, circle)
    return {
        "state": states.fingerprint(parts),
        "draw": float(torch.rand(())),
        "read": backend.read_bytes,
        "groups": sharing.hosts().groups,
        "rails": circle.rails,
        "left": memory_in_use(),
    }


def _apply(found: Found, fitting: Fitting, circle: Circle) -> None:
    with found:
        fitting.apply(found)
        circle.meet()


def memory_in_use() -> list[str]:
    """Anonymous memory that this process maps or has a descriptor of."""
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:" in line]
    descriptors = Path("/proc/self/fd")
    links = [str(descriptors / name) for name in os.listdir(descriptors)]  # noqa: PTH208 -- they come and go
    return mapped + [link for link in links if os.path.lexists(link) and "memfd:" in os.readlink(link)]  # noqa: PTH115


# --- memory that cannot be reached ---


def refused(world: World) -> list[dict[str, Any]]:
    """One rank is another user's; then each hides its memory from the others."""
    return [_share_hidden(world, hidden) for hidden in ({1}, set(range(world.world_size)))]


def _share_hidden(world: World, hidden: set[int]) -> dict[str, Any]:
    circle = Circle(world.control)
    mine = Blank(1000 + world.rank)
    mine.view[:] = bytes([world.rank + 1]) * mine.size
    sizes = [1000 + rank for rank in range(world.world_size)]
    with _hiding() if world.rank in hidden else contextlib.nullcontext():
        sharing = Sharing(circle)
        shelf = share(sharing, {world.rank: mine}, sizes, world.world_size)
    right = all(bytes(shelf.views[rank]) == bytes([rank + 1]) * size for rank, size in enumerate(sizes))
    shelf.close()
    mine.close()
    return {"groups": sharing.hosts().groups, "right": right}


def share(sharing: Sharing, mine: dict[int, SharedMemory], sizes: Sequence[int], world_size: int) -> Shelf:
    """Shard n, one block that rank n has, comes to all ranks."""
    shelf, everybody = Shelf(), frozenset(range(world_size))
    parcels = [Parcel(number, 0, 1, number, everybody) for number in range(len(sizes))]
    sharing.open(shelf, mine, range(len(sizes)), sizes, parcels)
    sharing.pass_on(shelf, parcels, sizes)
    return shelf


@contextlib.contextmanager
def _hiding() -> Iterator[None]:
    """As after a change of user, or with hidepid: /proc shows this process's descriptors to nobody."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        try:
            yield
        finally:
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def no_room(world: World) -> str:
    """A rank cannot hold what another host's would send."""
    mine: dict[int, SharedMemory] = {0: Blank(100)} if world.rank == 0 else {}
    try:
        share(Sharing(Circle(world.control), host=str(world.rank)), mine, [1 << 62], world.world_size)
    except StorageTrouble as error:
        return str(error)
    return "shared"


# --- memory that workers have left ---


def remembering(world: World, directory: Path) -> dict[str, Any]:
    """What two ranks go on from, by what their arenas hold. Step 4 is committed."""
    of = states.parts(7, steps=2)
    everything = {step: states.remembered(of, step, world.rank, world.world_size) for step in (3, 4, 5, 6)}
    answers = {
        "all have the newest": _resume(world, directory, [everything[5], everything[6]]),
        "one lacks the newest": _resume(world, directory, [everything[5 + n] for n in range(2 - world.rank)]),
        "older than the storage's": _resume(world, directory, [everything[3]]),
        "the storage's own": _resume(world, directory, [everything[4]]),
    }
    if world.rank == 1:
        everything[6].memory.view[5000] ^= 1
    answers["one is torn"] = _resume(world, directory, [everything[5], everything[6]])
    answers["all are torn"] = _resume(world, directory, [everything[6]])
    return answers


def _resume(world: World, directory: Path, remembered: list[Remembered]) -> dict[str, Any]:
    backend, circle = Counting(directory / "run"), Circle(world.control)
    parts = states.parts(world.rank, steps=0)
    fitting = Fitting(parts, circle.rank, circle.size)
    found = find(backend, circle, run="a-run", remembered=remembered, prepare=fitting.prepare)
    assert found is not None
    head = found.head
    step = head.resumed_from.step if head.resumed_from else None
    _apply(found, fitting, circle)
    return {
        "step": head.progress["step"],
        "from memory": head.from_memory,
        "committed": step,
        "read": backend.read_bytes,
        "state": states.fingerprint(parts),
        "kept": all(len(each.memory.view) for each in remembered),
    }
