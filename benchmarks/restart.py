"""From a worker's SIGKILL to the first step after it, beside torchrun: `python -m benchmarks.restart --kills 100`.

Two ranks on the CPU, the same training under both launchers, a random rank killed each time. torchrun is given
TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, without which it hangs more often than it recovers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from . import machine, samples, tables
from .ranks import pause
from .sizes import show_seconds

_RANKS: Final = 2
_JOB: Final = Path(__file__).with_name("restart_job.py")
_LOOK_S: Final = 0.005
_TAIL_BYTES: Final = 8 << 10
_START_S: Final = 120.0
_BETWEEN_STEPS: Final = 15
"""Steps between two kills: three saves, so that each restart finds a step newly committed."""

LAUNCHERS: Final[dict[str, tuple[str, ...]]] = {
    "relight": ("-m", "relight", "run", f"--nproc-per-node={_RANKS}"),
    "torchrun": ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={_RANKS}", "--max-restarts=1000"),
}

_LOOPS: Final = {"relight": "relight", "torchrun": "plain"}
"""As a script is written for each of them."""


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    dice = random.Random(options.seed)  # noqa: S311 -- not for secrets
    found = {}
    for name in LAUNCHERS if options.peers == "all" else ("relight",):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            kills = options.kills if name == "relight" else options.peer_kills or options.kills
            found[name] = measure(name, Path(folder), kills, options.deadline, dice)
    report = _report(found, options)
    tables.open_console().print(_table(found))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--peer-kills", type=int, help="of torchrun's workers, which takes longer; else as many")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds after which a restart counts as lost")
    parser.add_argument("--peers", choices=("all", "none"), default="all", help="torchrun too, or ours alone")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of ranks")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def measure(name: str, folder: Path, kills: int, deadline_s: float, dice: random.Random) -> list[float | None]:
    """Seconds from each kill to the first step of a new process; None where there was none in time.

    What does not come back is started anew, as an operator would.
    """
    seconds: list[float | None] = []
    while len(seconds) < kills:
        with _started(name, folder) as job:
            job.await_steps(_BETWEEN_STEPS, _START_S)
            while len(seconds) < kills:
                seconds.append(job.kill(dice.randrange(_RANKS), deadline_s))
                if seconds[-1] is None:
                    break
                job.await_steps(_BETWEEN_STEPS, _START_S)
    return seconds


class Job:
    """A launcher and its workers, known by what they have written down."""

    def __init__(self, folder: Path, launcher: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._launcher = launcher
        self._before = self._pids()

    def kill(self, rank: int, deadline_s: float) -> float | None:
        """SIGKILL for a rank. Seconds until all ranks have done a step in processes that were not there before."""
        old = self._pids()
        began = time.monotonic()
        os.kill(self._last(rank)["pid"], signal.SIGKILL)
        if not _came(lambda: not self._pids() & old, deadline_s):
            return None
        return max(self._first_of(rank) for rank in range(_RANKS)) - began

    def await_steps(self, count: int, deadline_s: float) -> None:
        """Until rank 0's present process has done so many steps. Raises RuntimeError when it does not."""
        if not _came(lambda: self._steps_of_present() >= count, deadline_s):
            message = f"no {count} steps within {deadline_s:g} s; the launcher's exit code is {self._launcher.poll()}"
            raise RuntimeError(message)

    def _steps_of_present(self) -> int:
        lines = self._lines(0)
        present = lines[-1]["pid"] if lines else None
        return sum(line["pid"] == present for line in lines) if present not in self._before else 0

    def _first_of(self, rank: int) -> float:
        """When the present process of a rank had done its first step."""
        lines = self._lines(rank)
        at: float = next(line["at"] for line in lines if line["pid"] == lines[-1]["pid"])
        return at

    def _pids(self) -> set[int]:
        return {self._last(rank)["pid"] for rank in range(_RANKS) if self._lines(rank)}

    def _last(self, rank: int) -> dict[str, Any]:
        return self._lines(rank)[-1]

    def _lines(self, rank: int) -> list[dict[str, Any]]:
        """The newest ones: what is looked at so often must not grow."""
        path = self._folder / f"steps-{rank}.jsonl"
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            texts = file.read().split(b"\n")
        # The first may be cut off here, and a killed process may have left one half written.
        return [line for text in texts if (line := _parsed(text))]


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _came(condition: Callable[[], bool], deadline_s: float) -> bool:
    ends_at = time.monotonic() + deadline_s
    while time.monotonic() < ends_at:
        if condition():
            return True
        pause(_LOOK_S)
    return False


@contextmanager
def _started(name: str, folder: Path) -> Iterator[Job]:
    """The launcher in a session of its own; nothing of it is left behind."""
    with (folder / "output.txt").open("ab") as output:
        launcher = subprocess.Popen(
            [sys.executable, *LAUNCHERS[name], str(_JOB), str(folder), _LOOPS[name]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        yield Job(folder, launcher)
    finally:
        launcher.terminate()  # It ends its workers, which may be in sessions of their own.
        try:
            launcher.wait(30)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()


def _report(found: dict[str, list[float | None]], options: argparse.Namespace) -> dict[str, Any]:
    summaries = {name: _summary(seconds) for name, seconds in found.items()}
    ours = summaries["relight"]
    theirs = summaries.get("torchrun", {}).get("median_s")
    return {
        "benchmark": "restart",
        **ours,
        "speedup_over_torchrun": theirs / ours["median_s"] if theirs and ours["median_s"] else None,
        "torchrun": summaries.get("torchrun"),
        "arguments": {"kills": options.kills, "deadline_s": options.deadline, "seed": options.seed, "ranks": _RANKS},
        "noise": samples.noise(_came_back(found["relight"])),
        "machine": machine.facts("."),
        "versions": machine.versions(),
    }


def _came_back(seconds: list[float | None]) -> list[float]:
    return [each for each in seconds if each is not None]


def _summary(seconds: list[float | None]) -> dict[str, Any]:
    recovered = _came_back(seconds)
    spread = samples.summary(recovered) if recovered else {"median": None, "min": None, "max": None}
    return {
        "kills": len(seconds),
        "recovered": len(recovered),
        **{f"{name}_s": spread[name] for name in ("median", "min", "max")},
        "samples_s": seconds,
    }


def _table(found: dict[str, list[float | None]]) -> Table:
    table = Table(title=f"a SIGKILL for one of {_RANKS} ranks, to the first step again")
    for column in ("", "came back", "median", "least", "greatest"):
        table.add_column(column, justify="right" if column else "left")
    for name, seconds in found.items():
        facts = _summary(seconds)
        times = [facts[f"{which}_s"] for which in ("median", "min", "max")]
        shown = [show_seconds(each) if each is not None else "" for each in times]
        table.add_row(name, f"{facts['recovered']} of {facts['kills']}", *shown)
    return table


if __name__ == "__main__":
    sys.exit(main())
