"""A writer that is stopped in the middle of a save, a launcher that takes over, and the writer that is woken again.

`python -m relight.tests.crash.zombies FOLDER --seed 1` prints as JSON what became of it, for a stop before every single
look at the storage and every change of it. It is a program of its own because it forks.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relight.storage import generations, sweep
from relight.storage.backends.disk import Disk
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.digest import digest
from relight.storage.retention import Rules
from relight.storage.verify import verify
from relight.tests.crash.checking import expected_digest
from relight.tests.storage.checkpoints import attempt_id, persist_rank, save

if TYPE_CHECKING:
    from collections.abc import Callable

    from relight.storage.backends.base import Bytes, Entry
    from relight.storage.layout import AttemptId

KEEP_LAST: Final = 2
BEFORE: Final = (5, 10)
"""Steps that the zombie committed before the save in which it is stopped."""
SAVES: Final = (20, 30)


class GatedDisk(Disk):
    """Passes a gate before every change of the storage."""

    def __init__(self, gate: Callable[[], None]) -> None:
        self._gate = gate

    def make_dir(self, path: Path) -> bool:
        self._gate()
        return super().make_dir(path)

    def write_new(self, path: Path, data: Bytes) -> None:
        self._gate()
        super().write_new(path, data)

    def link(self, source: Path, target: Path) -> None:
        self._gate()
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        self._gate()
        super().unlink(path)

    def remove_dir(self, path: Path) -> None:
        self._gate()
        super().remove_dir(path)

    def sync_dir(self, path: Path) -> None:
        self._gate()
        super().sync_dir(path)


class GatedBackend(LocalBackend):
    """And before every look."""

    def __init__(self, root: Path, gate: Callable[[], None]) -> None:
        super().__init__(root, GatedDisk(gate))
        self._gate = gate

    def list(self, prefix: str) -> list[Entry]:
        self._gate()
        return super().list(prefix)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self._gate()
        return super().read(key, start, length)


@dataclass
class Figures:
    rounds: int = 0
    takeovers: int = 0
    """Rounds in which the writer was stopped; in the last ones it had come to its end before."""
    late_commits: int = 0
    """Manifests that a zombie put after the takeover."""
    endings: dict[str, int] = field(default_factory=dict)
    """What the zombies were told once they were awake, and how often."""
    problems: list[str] = field(default_factory=list)


def zombie(root: Path, stop_at: int, tell: Callable[[str], object]) -> None:
    """Saves until it is told to stop; before its `stop_at`-th step it is stopped, as by a frozen machine."""
    steps = iter(range(stop_at))

    def gate() -> None:
        if next(steps, None) == stop_at - 1:
            os.kill(os.getpid(), signal.SIGSTOP)

    backend = GatedBackend(root, gate)
    for step in SAVES:
        now = attempt_id(step)
        persist_rank(backend, now, 1)
        outcome = persist_rank(backend, now, 0, deadline_s=0.05)
        tell(f"{'committed' if outcome.committed else 'superseded' if outcome.superseded else outcome.failed}\n")
        if not outcome.committed:
            return
        sweep.maintain(backend, now, Rules(keep_last=KEEP_LAST))


class Heir:
    """The launcher that took over, and goes on from the newest checkpoint or, `back`, from an older one."""

    def __init__(self, root: Path, *, back: bool) -> None:
        self.backend = LocalBackend(root)
        there = [checkpoint.id for checkpoint in Catalog(self.backend).committed()]
        self.resumed = there[-1 if back else 0]
        claim = generations.claim(self.backend, incarnation="heir", resumed_from=self.resumed.step, host="there")
        self.number = claim.number
        self.saved: list[AttemptId] = []

    def save(self) -> None:
        now = attempt_id(self.resumed.step + 2 * (len(self.saved) + 1), self.number)
        save(self.backend, now)
        self.saved.append(now)
        sweep.maintain(self.backend, now, Rules(keep_last=KEEP_LAST), protected=[self.resumed])

    def problems(self, when: str) -> list[str]:
        """Is all of its own there, and proven, and is its newest what a reader would choose?"""
        found = {checkpoint.id: checkpoint.manifest for checkpoint in Catalog(self.backend).committed()}
        wanted = {self.resumed, *self.saved[-KEEP_LAST:]}
        wrong = [f"{when}: LOST {each.name}" for each in sorted(wanted - found.keys())]
        for each, manifest in found.items():
            if verify(self.backend, manifest) or digest(self.backend, manifest) != expected_digest(each.step):
                wrong.append(f"{when}: FALSE {each.name}")
        newest = max(wanted)
        if max(found, default=None) != newest:
            wrong.append(f"{when}: {max(found).name if found else 'nothing'} is chosen instead of {newest.name}")
        return wrong


def play(root: Path, stop_at: int, chance: random.Random, figures: Figures, *, idle: bool = False) -> bool:
    """One round; False when the writer came to its end before it was stopped.

    With `idle` the heir saves only when the zombie has come to its end.
    """
    figures.rounds += 1
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hears)
        try:
            zombie(root, stop_at, lambda line: os.write(says, line.encode()))
        finally:
            os._exit(0)
    os.close(says)
    _, status = os.waitpid(child, os.WUNTRACED)
    with os.fdopen(hears, "rb", buffering=0) as said:
        if not os.WIFSTOPPED(status):
            return False
        figures.takeovers += 1
        os.set_blocking(hears, False)
        told = (said.read(4096) or b"").decode().splitlines()
        before, beside = (0, 0) if idle else (chance.randrange(3), chance.randrange(3))
        heir = _take_over(root, chance, before)
        what = f"stopped at {stop_at}, resumed from {heir.resumed.step}"
        _finish(heir, child, what, figures, beside)
        told_late = said.read().decode().splitlines()
    # One commit may slip through, the one that had looked for a later generation before there was one.
    if told_late not in (["superseded"], ["committed", "superseded"]) and len(told + told_late) < len(SAVES):
        figures.problems.append(f"{what}: it ended with {told_late}")
    if told_late.count("committed") > 1:
        figures.problems.append(f"{what}: it committed again and again")
    ending = ", ".join(told_late) or "had nothing left to save"
    figures.endings[ending] = figures.endings.get(ending, 0) + 1
    return True


def _take_over(root: Path, chance: random.Random, saves: int) -> Heir:
    committed = {checkpoint.step for checkpoint in Catalog(LocalBackend(root)).committed()}
    # Going back behind what the zombie may still let go is not tried: its retention has begun by another view.
    heir = Heir(root, back=SAVES[0] not in committed and chance.random() < 0.5)
    for _ in range(saves):
        heir.save()
    return heir


def _finish(heir: Heir, child: int, what: str, figures: Figures, saves: int) -> None:
    root = Path(heir.backend.url)
    manifests = _manifests(root)
    figures.problems += heir.problems(f"{what}, before it wakes")
    os.kill(child, signal.SIGCONT)
    for _ in range(saves):  # Both at once.
        heir.save()
        figures.problems += heir.problems(f"{what}, while it is awake")
    os.waitpid(child, 0)
    figures.problems += heir.problems(f"{what}, afterwards")
    figures.late_commits += sum("-g00000001-" in str(path) for path in _manifests(root) - manifests)
    heir.save()
    figures.problems += heir.problems(f"{what}, at the end")
    left = {path.name for path in (root / "checkpoints").iterdir()}
    kept = {checkpoint.id.name for checkpoint in Catalog(heir.backend).committed()}
    figures.problems += [f"{what}: LEFT BEHIND {name}" for name in sorted(left - kept)]


def _manifests(root: Path) -> set[Path]:
    return set(root.glob("checkpoints/*/manifest.json"))


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first time: in every other one it idles"
    )
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # That it may not tidy any more is what a zombie should say.
    prepared, root = asked.folder / "prepared", asked.folder / "run"
    backend = LocalBackend(prepared)
    generations.claim(backend, incarnation="zombie", resumed_from=None, host="here")
    for step in BEFORE:
        save(backend, attempt_id(step))
    figures, chance = Figures(), random.Random(asked.seed)
    for time in range(asked.first, asked.first + asked.times):
        stop_at, stopped = 1, True
        while stopped:
            shutil.copytree(prepared, root)
            stopped = play(root, stop_at, chance, figures, idle=time % 2 == 0)
            shutil.rmtree(root)
            stop_at += 1
    json.dump(asdict(figures), sys.stdout)


if __name__ == "__main__":
    _main()
