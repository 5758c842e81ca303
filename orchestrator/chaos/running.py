"""The launchers that live on this host, found by their scratch directories, and what their workers do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...configs.heartbeat import Beat, Phase, read_beat
from ...configs.protocol import ENV_RUN_DIR
from ..scratch import Announcement, announcements


@dataclass(frozen=True, slots=True)
class RunningLauncher(Announcement):
    """One launcher of this user on this host. `url` is its run's storage; None: it runs a script of the user's."""

    @property
    def attempt(self) -> int:
        """The newest; 0 before the first."""
        numbers = [int(path.name.removeprefix("attempt-")) for path in self.scratch.glob("attempt-*")]
        return max(numbers, default=0)

    def beats(self, attempt: int | None = None) -> dict[int, Beat]:
        """The newest beat of every rank of this host, in that attempt, or in the newest."""
        directory = self.scratch / f"attempt-{self.attempt if attempt is None else attempt}"
        ranks = sorted(int(path.name.removeprefix("heartbeat-")) for path in directory.glob("heartbeat-*"))
        return {rank: beat for rank in ranks if (beat := read_beat(directory, rank)) is not None}

    def trains(self, *, after_attempt: int = 0) -> bool:
        """Whether every rank has finished a step of its own, in a later attempt than that."""
        attempt = self.attempt  # Asked for once: the next one may begin at any moment.
        beats = self.beats(attempt).values()
        stepped = all(beat.phase is Phase.TRAINING and beat.step > beat.resumed_step for beat in beats)
        return attempt > after_attempt and bool(beats) and stepped

    @property
    def committed_step(self) -> int:
        return max((beat.committed_step for beat in self.beats().values()), default=-1)

    def persisters(self) -> list[int]:
        """The processes that write this launcher's checkpoints."""
        mark = f"{ENV_RUN_DIR}={self.scratch}/".encode()
        return [
            pid for pid, command, environment in _processes() if b"persister_main" in command and mark in environment
        ]


def running_launchers(url: str | None = None) -> list[RunningLauncher]:
    """All of them, or those of the run at `url`."""
    found = [RunningLauncher(each.pid, each.url, each.scratch) for each in announcements()]
    return found if url is None else [each for each in found if each.url == url]


def _processes() -> Iterator[tuple[int, bytes, bytes]]:
    """Number, command line and environment of every process that may be looked at."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:  # It is gone, or somebody else's.
                continue
