"""A process that looks for the newest valid checkpoint again and again, while another saves and lets go.

`python -m relight.tests.crash.readers FOLDER --seed 1` prints what it saw as JSON. A program of its own: it forks.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from relight.storage import generations, sweep
from relight.storage.backends.base import Entry
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Checkpoint, Standing
from relight.storage.retention import Rules
from relight.storage.verify import verify
from relight.tests.storage.checkpoints import attempt_id, save

LONGEST_PAUSE_S: Final = 0.02


class SlowBackend(LocalBackend):
    """Far away: now and then a look at the storage takes as long as some saves."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        super().__init__(root)
        self._chance = chance

    def _take_time(self) -> None:
        if self._chance.random() < 0.3:
            select.select([], [], [], self._chance.uniform(0, LONGEST_PAUSE_S))

    def list(self, prefix: str) -> list[Entry]:
        found = super().list(prefix)
        self._take_time()
        return found

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self._take_time()
        return super().read(key, start, length)


class ListsOnce(Catalog):
    """As it would be written at first: what is gone when it is looked at was there in vain."""

    def committed(self) -> Iterator[Checkpoint]:
        for listed in self.listing():
            if listed.standing is Standing.COMMITTED and listed.manifest is not None:
                yield Checkpoint(listed.manifest)


CATALOGS: Final = {each.__name__: each for each in (Catalog, ListsOnce)}


@dataclass
class Figures:
    looks: int = 0
    saves: int = 0
    lost_races: int = 0
    """Checkpoints that were gone before they were read to the end."""
    nothing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    """Looks that ended with an older checkpoint than was announced before they began."""


def write(root: Path, keep_last: int, announced: mmap.mmap) -> None:
    backend, step = LocalBackend(root), 1
    while True:
        step += 1
        now = attempt_id(step)
        save(backend, now)
        announced[:8] = struct.pack("q", step)
        sweep.maintain(backend, now, Rules(keep_last=keep_last))


def look(root: Path, kind: type[Catalog], announced: mmap.mmap, chance: random.Random, figures: Figures) -> None:
    """One resume's way to a checkpoint that it has read whole."""
    (at_least,) = struct.unpack("q", announced[:8])
    backend = SlowBackend(root, chance)
    figures.looks += 1
    for checkpoint in kind(backend).committed():
        if verify(backend, checkpoint.manifest):
            figures.lost_races += 1
            continue
        if checkpoint.step < at_least:
            figures.stale.append(f"look {figures.looks}: step {checkpoint.step}, announced was {at_least}")
        return
    figures.nothing.append(f"look {figures.looks}: nothing, announced was step {at_least}")


def run(root: Path, kind: type[Catalog], *, keep_last: int, seconds: float, seed: int) -> Figures:
    figures, chance, announced = Figures(), random.Random(seed), mmap.mmap(-1, 8)
    backend = LocalBackend(root)
    generations.claim(backend, incarnation="writer", resumed_from=None, host="here")
    save(backend, attempt_id(1))
    announced[:8] = struct.pack("q", 1)
    child = os.fork()
    if child == 0:
        try:
            write(root, keep_last, announced)
        finally:
            os._exit(1)
    try:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            look(root, kind, announced, chance, figures)
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the writer came to an end"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    (figures.saves,) = struct.unpack("q", announced[:8])
    return figures


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--catalog", choices=sorted(CATALOGS), default="Catalog")
    parser.add_argument("--keep-last", type=int, default=1)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    kind = CATALOGS[asked.catalog]
    figures = run(asked.folder, kind, keep_last=asked.keep_last, seconds=asked.seconds, seed=asked.seed)
    json.dump(asdict(figures), sys.stdout)


if __name__ == "__main__":
    _main()
