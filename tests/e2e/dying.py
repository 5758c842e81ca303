"""Deaths by plan: a rank ends itself, and what else is to end with it, by SIGKILL at a point that was drawn.

The plan lies in the run's folder. A point is counted in function calls, Python's and native ones, since the beginning
of a place in the script, or in seconds since the beginning of a step: then it may lie in the middle of native code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from relight.configs.protocol import ENV_RUN_DIR

PLAN: Final = "plan.json"
CALLS: Final = "calls.json"
"""What rank 0 counted in a run without a plan, by step and place."""


@dataclass(frozen=True, slots=True)
class Death:
    """Of `rank` in `step`: at the next call after so many in `place`, or at its end, whichever is first; or after
    `seconds`, wherever that is.

    `victims`: "worker", "worker and persister", or "host": all persisters and the launcher go as well.
    """

    rank: int
    step: int
    place: str
    victims: str
    calls: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        call = "the end" if self.calls == sys.maxsize else f"call {self.calls}"
        when = f"after {1000 * self.seconds:.0f} ms" if self.seconds else f"at {call} of {self.place}"
        return f"step {self.step}, {when}: {self.victims} of rank {self.rank}"

    @property
    def mark(self) -> str:
        """The file that says that it was died."""
        return f"died-{self.rank}-{self.step}"


def plan(folder: Path, deaths: list[Death]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN).write_text(json.dumps([asdict(death) for death in deaths]))


class Mortality:
    """What a script tells of where it is. Without a plan it counts the calls, for a plan to be made of."""

    def __init__(self, folder: Path, rank: int) -> None:
        path = folder / PLAN
        self._folder = folder
        self._rank = rank
        self._deaths = [Death(**each) for each in json.loads(path.read_text())] if path.exists() else []
        self._counting = not path.exists() and rank == 0
        self._counts: dict[int, dict[str, int]] = {}
        self._due: Death | None = None
        self._victims: list[int] = []
        self._step = 0

    def begin(self, step: int) -> None:
        """Of a step. Who is to die is looked up now, so that nobody gains time by it."""
        self._step = step
        self._due = next((death for death in self._deaths if self._is_due(death)), None)
        if self._due is not None:
            self._victims = _victims(self._due, self._folder)
            if self._due.seconds:
                threading.Timer(self._due.seconds, self._die, [self._due, self._victims]).start()

    def _is_due(self, death: Death) -> bool:
        return (death.rank, death.step) == (self._rank, self._step) and not (self._folder / death.mark).exists()

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        due = self._due if self._due is not None and (self._due.place, self._due.seconds) == (place, 0.0) else None
        calls = 0

        def count(_frame: Any, event: str, _argument: Any) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}
            if due is not None and calls > due.calls:
                self._die(due, self._victims)

        if due is not None or self._counting:
            sys.setprofile(count)
        yield
        sys.setprofile(None)
        self._counts.setdefault(self._step, {})[place] = calls
        if due is not None:
            self._die(due, self._victims)

    def _die(self, death: Death, victims: list[int]) -> None:
        sys.setprofile(None)
        (self._folder / death.mark).touch()
        for pid in [*victims, os.getpid()]:
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        if self._counting:
            (self._folder / CALLS).write_text(json.dumps(self._counts))


def _victims(death: Death, folder: Path) -> list[int]:
    """Besides the worker. Persisters are there once there is something to save."""
    if death.victims == "worker":
        return []
    if death.victims == "worker and persister":
        return _persisters(folder, of=os.getpid())
    launcher = json.loads((Path(os.environ[ENV_RUN_DIR]).parent / "launcher.json").read_text())["pid"]
    return [*_persisters(folder), launcher]


def _persisters(folder: Path, *, of: int | None = None) -> list[int]:
    """Those that were started in `folder`, by the trainer `of` if it is given."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if not any(word.endswith(b"persister_main") for word in command) or (entry / "cwd").readlink() != folder:
                continue
        except OSError:  # It is gone.
            continue
        if of is None or command[-2] == str(of).encode():
            found.append(int(entry.name))
    return found
