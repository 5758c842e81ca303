"""Starts real runs with the real command, and reads what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relight.orchestrator.commands import inspection
from relight.tests.processes import alive
from relight.tests.waiting import wait_until

HERE = Path(__file__).parent

CONFIG = """
name: tiny
task: tiny_task:Tiny
task_args: {{notes: {folder}}}
train: {{epochs: 4, batch_size: 32, lr: 0.01}}
data: {{num_workers: 2}}
checkpoint: {{every: 10, keep_last: 3, when_busy: wait}}
storage: {{url: {folder}/run}}
restart: {{backoff_s: 0.1}}
log: {{trace: "{folder}/trace-{{rank}}.jsonl"}}
"""


class Run:
    """One run in a folder of its own; starting it again goes on with it."""

    def __init__(self, folder: Path, *overrides: str, ranks: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.url = folder / "run"
        self.address = str(self.url)
        """What the commands are asked about: the run's storage.url."""
        self.ranks = ranks
        self.output = folder / "output.txt"
        self._config = folder / "config.yaml"
        self._config.write_text(CONFIG.format(folder=folder), encoding="utf-8")
        self._overrides = overrides

    def start(self, *overrides: str) -> subprocess.Popen[bytes]:
        """`relight run` in the background, in a session of its own; its output is appended to `self.output`."""
        flags = ["--nproc-per-node", str(self.ranks)]
        command = [sys.executable, "-m", "relight", "run", *flags, str(self._config), *self._overrides, *overrides]
        with self.output.open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=HERE,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(os.environ, PYTHONPATH=str(HERE)),
                start_new_session=True,
            )

    def finish(self, *overrides: str, timeout_s: float = 240) -> int:
        """Run to the end; the exit code."""
        with started(self, *overrides) as process:
            return process.wait(timeout_s)

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def pid(self, rank: int) -> int:
        return int((self.folder / f"pid-{rank}").read_text())

    def steps_done(self, rank: int = 0) -> int:
        """The last step that a rank has finished; 0 before the first."""
        trace = self._lines(f"trace-{rank}.jsonl")
        return int(trace[-1]["step"]) if trace else 0

    def await_step(self, step: int) -> None:
        wait_until(lambda: self.steps_done() >= step, deadline_s=200, what=f"step {step}")

    def persisters(self) -> list[int]:
        """The processes that write this run's checkpoints now."""
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return [pid for pid in numbers if self._is_persister(pid)]

    def _is_persister(self, pid: int) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            return (
                b"persister_main" in command and str(self.folder).encode() in Path(f"/proc/{pid}/environ").read_bytes()
            )
        except OSError:  # Gone meanwhile.
            return False

    def is_over(self) -> bool:
        """No worker is left."""
        return not any(alive(self.pid(rank)) for rank in range(self.ranks))

    def losses(self, rank: int) -> dict[int, float]:
        """Loss by step. A step that was done again after a restart must have had the same loss, bit for bit."""
        return _one_value_per_step((line["step"], line["loss"]) for line in self._lines(f"trace-{rank}.jsonl"))

    def trace(self, rank: int) -> dict[int, dict[str, Any]]:
        """The whole lines, by step; that of a step which was done again is the same."""
        return _one_value_per_step((line["step"], line) for line in self._lines(f"trace-{rank}.jsonl"))

    def samples(self) -> dict[int, list[int]]:
        """The samples of all ranks by step, checked to be the same each time a step was done."""
        by_step: dict[int, list[int]] = defaultdict(list)
        for rank in range(self.ranks):
            lines = self._lines(f"samples-{rank}.jsonl")
            for step, samples in _one_value_per_step((line["step"], line["samples"]) for line in lines).items():
                by_step[step] += samples
        return by_step

    def relight(self, verb: str, *args: str) -> subprocess.CompletedProcess[str]:
        """`relight VERB URL ARGS`."""
        command = [sys.executable, "-m", "relight", verb, self.address, *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def digest(self) -> str:
        """As `relight show --digest` says it, without a process that starts."""
        return inspection.digest_checkpoint(self.address, lambda passed_over: None)

    def committed(self) -> list[dict[str, Any]]:
        """Newest first."""
        return [entry for entry in inspection.list_checkpoints(self.address) if entry["standing"] == "committed"]

    def _lines(self, name: str) -> list[Any]:
        path = self.folder / name
        if not path.exists():
            return []
        # A killed process may leave its last line half written.
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]


@contextmanager
def started(run: Run, *overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    """The run in the background; whatever happens, nothing of it is left behind."""
    process = run.start(*overrides)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _one_value_per_step(pairs: Any) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for step, value in pairs:
        assert found.setdefault(step, value) == value, f"step {step} was {found[step]} and then {value}"
    return found
