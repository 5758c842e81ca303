"""Journals of launchers that never lived, written by the real bookkeeper under a clock of the test's.

from relight.tests.orchestrator.recorded import Recorded
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from relight.configs.heartbeat import Beat, Phase
from relight.orchestrator.accounting.keeping import Bookkeeper
from relight.orchestrator.journal import Journal


@dataclass
class Recorded:
    """One launcher's life from `at` on (seconds of the wall clock). Stands in for its journal."""

    incarnation: str
    at: float
    host: str = "alpha"
    rank: int = 0
    leader: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    now: dict[str, Any] | None = None
    keeper: Bookkeeper = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = Bookkeeper(clock=lambda: round(self.at * 1e9))
        self.keeper._journal = cast(Journal, self)

    def record(self, event: str, **facts: Any) -> None:
        line = {"event": event, "at": round(self.at, 3), "host": self.host, "incarnation": self.incarnation, **facts}
        self.lines.append(line)
        self.keeper.hear(line)

    def show(self) -> None:
        where = {"at": round(self.at, 3), "host": self.host, "incarnation": self.incarnation}
        self.now = {"event": "now", **where, **self.keeper.facts()}

    def launch(self, seconds: float = 2.0) -> None:
        self.at += seconds
        self.record("launched", target="config.yaml", processes=1)
        self.join(1)

    def join(self, attempt: int, *, hosts: int = 1) -> None:
        self.record(
            "joined", leader=self.leader or self.incarnation, group_rank=self.rank, group_world_size=hosts,
            first_rank=self.rank, world_size=hosts, local_world_size=1, attempt=attempt,
        )  # fmt: skip

    def train(self, first: int, last: int, *, resumed: int = -1) -> None:
        """A step a second; before the first one a second of restoring."""
        self.beat(Phase.RESTORING)
        self.at += 1
        for step in range(first, last + 1):
            self.beat(Phase.TRAINING, step, resumed)
            self.at += 1
        self.beat(Phase.TRAINING, last, resumed)

    def beat(self, phase: Phase, step: int = -1, resumed: int = -1) -> None:
        beats: Mapping[int, Beat] = {self.rank: Beat(phase, step, -1, resumed, 1, 0)}
        self.keeper.observe(beats)

    def fail(self, attempt: int, kind: str = "KILLED", *, step: int = 0, decision: str = "Restart") -> None:
        """It ends at once; the next attempt begins at once, if there is one."""
        self.record("exited", attempt=attempt, rank=self.rank, returncode=-9, killed_by_us=False, step=step)
        self.record("failed", attempt=attempt, kind=kind, rank=self.rank, what="killed by SIGKILL", step=step)
        self.record("decided", attempt=attempt, decision=decision, reason="first failure", delay_s=0.0)
        if decision == "Restart":
            self.join(attempt + 1)

    def end(self, code: int = 0) -> None:
        self.record("exited", attempt=1, rank=self.rank, returncode=code)
        self.at += 1
        self.record("ended", exit_code=code)

    @property
    def text(self) -> str:
        return "".join(json.dumps(line) + "\n" for line in self.lines)

    def store(self, url: Path, name: str = "{}-{}-00000.jsonl") -> Path:
        """As the journal would have stored it."""
        folder = url / "journal"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name.format(self.incarnation, self.host)
        path.write_text(self.text)
        if self.now is not None:
            (folder / f"{self.incarnation}-{self.host}-now.jsonl").write_text(json.dumps(self.now) + "\n")
        return path
