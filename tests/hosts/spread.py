"""One run on several hosts, and what it says and leaves on each of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relight.tests.e2e.paced_task import HURRY
from relight.tests.e2e.running import HERE, Run
from relight.tests.hosts.network import Host
from relight.tests.waiting import wait_until

SETTINGS: Final = ("task=paced_task:Paced", "data.num_workers=0", "train.epochs=30", "checkpoint.every=20")
EPOCH_STEPS: Final = 16
STEPS: Final = 30 * EPOCH_STEPS


class Spread(Run):
    """A rank on each host. A step takes a tenth of a second until the run is told to hurry."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        super().__init__(folder, *SETTINGS, *overrides)

    def start_on(self, host: Host, *flags: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "relight", "run", "--nproc-per-node=1", *flags]
        environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        return host.start([*command, self._config, *self._overrides], self.output_of(host), cwd=HERE, env=environment)

    def output_of(self, host: Host) -> Path:
        return self.folder / f"output-{host.name}.txt"

    def said_on(self, host: Host) -> str:
        path = self.output_of(host)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def text(self) -> str:
        """What all hosts have said, for a failure's text."""
        outputs = sorted(self.folder.glob("output*.txt"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in outputs)

    def hurry(self) -> None:
        (self.folder / HURRY).touch()

    def await_here(self, condition: Callable[[], object], what: str, deadline_s: float = 180) -> float:
        """Seconds until it is so."""
        began = time.monotonic()
        try:
            wait_until(lambda: bool(condition()), deadline_s=deadline_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}") from None
        return time.monotonic() - began

    def await_line(self, host: Host, pattern: str, deadline_s: float = 180) -> float:
        return self.await_here(
            lambda: re.search(pattern, self.said_on(host)), f"{pattern!r} on {host.name}", deadline_s
        )

    def await_steps(self, more: int, rank: int = 0) -> float:
        """Until that rank has done so many more."""
        done = self.steps_done(rank)
        return self.await_here(lambda: self.steps_done(rank) >= done + more, f"{more} steps after {done}")

    def steps_taken(self) -> int:
        """By rank 0, those that were done twice counted twice."""
        return len(self._lines("trace-0.jsonl"))

    def seen(self) -> dict[int, set[int]]:
        """The samples of each step, whatever ranks there were and however often it was done."""
        by_step: dict[int, set[int]] = defaultdict(set)
        for path in self.folder.glob("samples-*.jsonl"):
            for line in path.read_text().split("\n")[:-1]:
                step = json.loads(line)
                by_step[step["step"]].update(step["samples"])
        return by_step


def meeting_at(host: Host) -> tuple[str, ...]:
    return ("--rdzv-backend=c10d", f"--rdzv-endpoint={host.address}:29400", "--rdzv-id=job")


def meeting_in(folder: Path, host: Host) -> tuple[str, ...]:
    """No route leads to a file: each host says how it is reached."""
    endpoint = f"--rdzv-endpoint={folder / 'rendezvous'}"
    return ("--rdzv-backend=c10d", "--rdzv-conf=store_type=file", endpoint, "--rdzv-id=job",
            f"--local-addr={host.address}")  # fmt: skip
