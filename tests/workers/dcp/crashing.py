"""Saves that are ended at each of their operations on the disk, and by power cuts."""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from torch.distributed.checkpoint.api import CheckpointException

import relight
from relight.storage.backends.disk import Disk
from relight.storage.backends.local import LocalBackend
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog, Standing
from relight.tests.crash.medium import KINDS, Medium
from relight.tests.workers.dcp.faulty import in_a_fork, loaded, reader, save, writer
from relight.workers.dcp import lineage

if TYPE_CHECKING:
    from relight.storage.backends.base import Source
    from relight.workers.parallel import World

MOST_OPERATIONS: Final = 200
ROUNDS: Final = 20
"""Lives of one run; then another begins, because a run's generations only get more."""


class KilledAt(Disk):
    """The process is killed before the operation of this number; files that it writes are then half there."""

    def __init__(self, number: int) -> None:
        self._left = number

    def _next(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def write_stream(self, path: Path, source: Source) -> None:
        if self._left == 1:
            path.write_bytes(bytes(source[: len(source) // 2]))
        self._next()
        super().write_stream(path, source)

    def make_dir(self, path: Path) -> bool:
        self._next()
        return super().make_dir(path)

    def link(self, source: Path, target: Path) -> None:
        self._next()
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        self._next()
        super().unlink(path)

    def sync_dir(self, path: Path) -> None:
        self._next()
        super().sync_dir(path)


def _save_and_die(root: Path, step: int, operation: int) -> None:
    with mock.patch.object(lineage, "open_backend", return_value=LocalBackend(root, KilledAt(operation))):
        save(step, relight.dcp.Writer(str(root), keep_last=2))


def killed_everywhere(world: World, directory: Path) -> dict[str, Any]:
    return _killed_at(range(1, MOST_OPERATIONS), directory)


def killed_at_every_third(world: World, directory: Path) -> dict[str, Any]:
    return _killed_at(range(random.randrange(1, 4), MOST_OPERATIONS, 3), directory)


def _killed_at(operations: range, directory: Path) -> dict[str, Any]:
    """After a kill at each of these: is what is loaded a state that there has been, and none too old?"""
    url = str(directory / "run")
    save(1, writer("relight", url))
    newest, false, kills = 1, [], 0
    for number in operations:
        ended = in_a_fork(partial(_save_and_die, directory / "run", newest + 1, number))
        found = loaded(reader("relight", url))
        if found not in ([newest], [newest + 1]) or (ended == 0 and found != [newest + 1]):
            false.append(f"{number}: {found} after {newest}")
        newest = int(found[-1])
        kills += ended == -signal.SIGKILL
        if ended == 0:
            break
    standings = [str(each.standing) for each in Catalog(open_backend(url)).listing()]
    return {"kills": kills, "false": false, "standings": standings, "saves": newest}


# --- power cuts ---


def told_and_found(kind: str, folder: Path) -> dict[str, list[str]]:
    """A save that has returned, the power cut at once; then what is loaded."""
    found: dict[str, list[str]] = {}
    medium = Medium(kind, folder)
    try:
        for which in ("dcp", "relight"):
            with medium.mounted() as point:
                save(1, writer(which, str(point / which)))
                medium.cut_power()
            with medium.mounted() as point:
                try:
                    found[which] = [f"loaded {loaded(reader(which, str(point / which)))}"]
                except (Exception, CheckpointException) as error:  # noqa: BLE001 -- DCP's is no Exception
                    found[which] = [f"gone: {type(error).__name__}", *(each.name for each in (point / which).iterdir())]
    finally:
        medium.close()
    return found


def cut_in_mid_save(kind: str, folder: Path, cuts: int, seed: int) -> dict[str, Any]:
    """The power goes at any moment of saves, one after the other: what was announced, and what is there then."""
    chance = random.Random(seed)
    acknowledged, unfinished, lost = 0, 0, []
    with ExitStack() as stack:
        medium = Medium(kind, folder)
        stack.callback(medium.close)
        announced = 0
        for number in range(cuts):
            run = f"run-{number // ROUNDS}"
            announced = announced if number % ROUNDS else 0
            with medium.mounted() as point:
                heard = _saves_until_the_cut(medium, str(point / run), announced, chance)
                acknowledged += max(heard - announced, 0)
            with medium.mounted() as point:
                there = list(Catalog(open_backend(str(point / run))).listing())
                unfinished += sum(each.standing is Standing.UNFINISHED for each in there)
                newest = loaded(reader("relight", str(point / run))) if heard or there else [0]
                # One more may be durable, of which nobody was told.
                if len(newest) != 1 or not heard <= newest[0] <= heard + 1:
                    lost.append(f"cut {number}: {newest} after {heard}")
                announced = int(newest[-1])
    return {"cuts": cuts, "acknowledged": acknowledged, "unfinished": unfinished, "lost": lost}


def _saves_until_the_cut(medium: Medium, url: str, step: int, chance: random.Random) -> int:
    """The last save of which a new process could say that it has returned."""
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hears)
        try:
            to = relight.dcp.Writer(url, keep_last=2)
            for number in range(step + 1, 1 << 30):
                save(number, to)
                os.write(says, f"{number}\n".encode())
        finally:
            os._exit(0)
    os.close(says)
    with os.fdopen(hears, "rb", buffering=0) as said:
        heard = said.read(16) if step == 0 or chance.random() < 0.5 else b""
        select.select([], [], [], chance.uniform(0, 0.05))
        os.set_blocking(said.fileno(), False)
        heard = (heard or b"") + (said.read(1 << 16) or b"")
        medium.cut_power()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return int(heard.split()[-1]) if heard.split() else step


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cuts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # DCP's, that there is no process group.
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="relight-dcp-") as one, tempfile.TemporaryDirectory() as other:
        figures = {
            **told_and_found(asked.kind, Path(one)),
            **cut_in_mid_save(asked.kind, Path(other), asked.cuts, asked.seed),
        }
    json.dump(figures | {"seconds": time.monotonic() - began}, sys.stdout)


if __name__ == "__main__":
    _main()
