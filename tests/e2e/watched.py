"""A run that is read while it trains, and that can be made to end where another one did."""

from __future__ import annotations

import re
from pathlib import Path

from relight.configs.heartbeat import Beat, read_beat
from relight.configs.protocol import ExitCode
from relight.tests.e2e.paced_task import HEARTBEATS, HURRY, LAST
from relight.tests.e2e.running import Run


class Watched(Run):
    """A paced run whose heartbeats are read as its launcher reads them."""

    def beat(self, rank: int = 0) -> Beat:
        found = self.first_beat(rank)
        assert found is not None
        return found

    def first_beat(self, rank: int = 0) -> Beat | None:
        """None before it."""
        note = self.folder / HEARTBEATS
        return read_beat(Path(note.read_text()), rank) if note.exists() else None

    def pids(self) -> list[int]:
        return [self.beat(rank).pid for rank in range(self.ranks)]

    def finish_at(self, step: int) -> None:
        """To be started: without a pause to that step, and no further."""
        (self.folder / LAST).write_text(str(step))
        (self.folder / HURRY).touch()
        assert self.finish(timeout_s=900) == ExitCode.PREEMPTED, self.text

    def failed_saves(self) -> list[int]:
        return [int(step) for step in re.findall(r"the save of step (\d+) failed", self.text)]
