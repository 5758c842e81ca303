"""Power cuts of a real filesystem: a run saves on it, the power goes, the log is replayed; what is there now?

`python -m relight.tests.crash.power_cuts ext4 --cuts 500 --seed 1` prints what it saw as JSON. It needs root. It wants
to be started below `unshare --mount --pid --fork --kill-child`: then the kernel takes mount and loop device away with
the process, however it ends.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relight.storage import generations, runs, sweep
from relight.storage.backends.disk import Disk
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Standing
from relight.storage.digest import digest
from relight.storage.layout import AttemptId
from relight.storage.retention import Rules
from relight.storage.verify import verify
from relight.tests.crash.checking import expected_digest, record_problems
from relight.tests.crash.lives import IDENTITY, KEEP_LAST, Claimed, Registered
from relight.tests.crash.medium import KINDS, Medium
from relight.tests.storage.checkpoints import attempt_id, persist_rank

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from relight.storage.backends.base import Bytes

FIRST_STEPS_S: Final = 0.04
"""Seconds in which a life that is cut before its first commit may get anywhere."""
LIVES: Final = 20
"""Lives of one run; then another begins, because a run's generations only get more."""


class NeverSyncsFolders(Disk):
    def sync_dir(self, path: Path) -> None:
        pass


class NeverSyncsFiles(Disk):
    def write_new(self, path: Path, data: Bytes) -> None:
        path.write_bytes(data)


DISKS: Final[dict[str, type[Disk]]] = {each.__name__: each for each in (Disk, NeverSyncsFolders, NeverSyncsFiles)}


@dataclass
class Told:
    """What a run's lives were told is durable."""

    records: list[Claimed | Registered] = field(default_factory=list)
    kept: list[AttemptId] = field(default_factory=list)
    """Committed, and not let go by retention."""

    def hear(self, line: str) -> None:
        what, _, value = line.partition(" ")
        if what == "registered":
            self.records.append(Registered(value))
        elif what == "claimed":
            self.records.append(Claimed(int(value)))
        elif what == "committed":
            committed = AttemptId.parse(value)
            assert committed is not None
            self.kept.append(committed)
        elif what == "tidies":
            self.kept = sorted(self.kept)[-KEEP_LAST:]


@dataclass
class Figures:
    cuts: int = 0
    acknowledged: int = 0
    unfinished: int = 0
    """Saves that the cuts left half done."""
    unheard: int = 0
    """Checkpoints that were there before anybody was told."""
    lost: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    seconds: float = 0


def live(root: Path, disk: type[Disk], tell: Callable[[str], object]) -> None:
    """A launcher that starts and two ranks that save until the storage fails them."""
    mine, other = (LocalBackend(root, disk()) for _ in range(2))
    tell(f"registered {runs.register(mine, IDENTITY).run}")
    newest = next(Catalog(mine).committed(), None)
    step = newest.step if newest else 0
    claim = generations.claim(
        mine, incarnation=f"life-{os.getpid()}-{time.monotonic_ns()}", resumed_from=step or None, host="here"
    )
    tell(f"claimed {claim.number}")
    with ThreadPoolExecutor(1) as pool:
        while True:
            step += 1
            now = attempt_id(step, claim.number)
            second = pool.submit(persist_rank, other, now, 1)
            committed = persist_rank(mine, now, 0, deadline_s=1.0).committed
            if not committed or second.result().failed:
                return
            tell(f"committed {now.name}")
            tell("tidies")
            sweep.maintain(mine, now, Rules(keep_last=KEEP_LAST))


def life_until_the_cut(medium: Medium, root: Path, disk: type[Disk], chance: random.Random) -> list[str]:
    """All that a new life, in a process of its own, said before the cut.

    What it says afterwards, nobody would hear; and xfs answers the fsync of an open folder with success when it is
    shut down already.
    """
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hears)
        try:
            live(root, disk, lambda line: os.write(says, f"{line}\n".encode()))
        finally:
            os._exit(0)
    os.close(says)
    with os.fdopen(hears, "rb", buffering=0) as said:
        heard = _wait_for_the_moment(said, chance)
        os.set_blocking(hears, False)
        heard += said.read(1 << 16) or b""
        medium.cut_power()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return heard.decode().splitlines()


def _wait_for_the_moment(said: FileIO, chance: random.Random) -> bytes:
    """After so many commits, and then anywhere in a save; what was said until then."""
    heard, commits, began = b"", chance.randrange(5), time.monotonic()
    save_s = FIRST_STEPS_S
    while heard.count(b"committed") < commits and (more := said.read(4096)):
        heard += more
        save_s = (time.monotonic() - began) / max(1, heard.count(b"committed"))
    _pause(chance.uniform(0, save_s * 1.2))
    return heard


def _pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def look(root: Path, told: Told, figures: Figures) -> None:
    """What came back: all that was told, and nothing that is not proven."""
    backend = LocalBackend(root)
    found = set()
    for listed in Catalog(backend).listing():
        if listed.standing is Standing.COMMITTED and listed.manifest is not None:
            found.add(listed.id)
            damage = verify(backend, listed.manifest)
            if damage or digest(backend, listed.manifest) != expected_digest(listed.id.step):
                figures.false.append(f"cut {figures.cuts}: {listed.id.name} would be used: {damage or 'another state'}")
        elif listed.standing is Standing.UNFINISHED:
            figures.unfinished += 1
        else:
            figures.false.append(f"cut {figures.cuts}: {listed.id.name} is {listed.standing}: {listed.reason}")
    figures.lost += [f"cut {figures.cuts}: {each.name}" for each in told.kept if each not in found]
    for problem in record_problems(backend, told.records):
        (figures.lost if problem.startswith("LOST") else figures.false).append(f"cut {figures.cuts}: {problem}")
    unheard = found - set(told.kept)
    figures.unheard += sum(each > max(told.kept, default=attempt_id(0, 0)) for each in unheard)
    told.kept = sorted(found)


def run(kind: str, disk: type[Disk], *, cuts: int, seconds: float, seed: int) -> Figures:
    """Until there were so many cuts, or that much time went by, or a run lost something."""
    figures, chance, began = Figures(), random.Random(seed), time.monotonic()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="relight-power-"))
        medium = Medium(kind, Path(folder))
        stack.callback(medium.close)
        told, root = Told(), medium.point / "none-yet"
        while True:
            with medium.mounted():
                look(root, told, figures)
                over = figures.cuts >= cuts or time.monotonic() - began >= seconds
                if over or figures.lost or figures.false:
                    break
                if figures.cuts % LIVES == 0:
                    shutil.rmtree(root, ignore_errors=True)
                    told, root = Told(), medium.point / f"run-{figures.cuts // LIVES}"
                for line in life_until_the_cut(medium, root, disk, chance):
                    figures.acknowledged += line.startswith("committed ")
                    told.hear(line)
                figures.cuts += 1
    figures.seconds = time.monotonic() - began
    return figures


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--disk", choices=sorted(DISKS), default="Disk")
    parser.add_argument("--cuts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # The storage complains of every cut.
    figures = run(asked.kind, DISKS[asked.disk], cuts=asked.cuts, seconds=asked.seconds, seed=asked.seed)
    json.dump(asdict(figures), sys.stdout)


if __name__ == "__main__":
    _main()
