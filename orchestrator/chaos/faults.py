"""The faults, one function each: what it does to a running launcher, and a line about it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...storage.backends.base import Backend
from ...storage.catalog import Catalog
from ..errors import UsageError
from .running import RunningLauncher


@dataclass(frozen=True, slots=True)
class Stage:
    """What a fault may touch. `rank` None: any; `interface` and `outage_s` are netdrop's."""

    launcher: RunningLauncher
    backend: Backend | None
    dice: random.Random
    rank: int | None = None
    interface: str | None = None
    outage_s: float = 15.0

    def pick(self) -> tuple[int, int]:
        """A rank of this host and its process.

        Raises:
            UsageError: there is no such rank here.
        """
        pids = {rank: beat.pid for rank, beat in self.launcher.beats().items()}
        if not pids or (self.rank is not None and self.rank not in pids):
            wanted = "a worker" if self.rank is None else f"rank {self.rank}"
            raise UsageError(f"{wanted} is not running on this host under launcher {self.launcher.pid}")
        rank = self.rank if self.rank is not None else self.dice.choice(sorted(pids))
        return rank, pids[rank]


def kill(stage: Stage) -> str:
    rank, pid = stage.pick()
    _signal(pid, signal.SIGKILL)
    return f"SIGKILL to rank {rank}"


def kill_persister(stage: Stage) -> str:
    persisters = stage.launcher.persisters()
    if not persisters:
        return "there is no persister yet"
    pid = stage.dice.choice(persisters)
    _signal(pid, signal.SIGKILL)
    return f"SIGKILL to persister {pid}"


def hang(stage: Stage) -> str:
    rank, pid = stage.pick()
    _signal(pid, signal.SIGSTOP)
    return f"SIGSTOP to rank {rank}"


def preempt(stage: Stage) -> str:
    """The launcher saves and ends; whoever started it starts it again."""
    _signal(stage.launcher.pid, signal.SIGTERM)
    return f"SIGTERM to launcher {stage.launcher.pid}"


def kill_launcher(stage: Stage) -> str:
    _signal(stage.launcher.pid, signal.SIGKILL)
    return f"SIGKILL to launcher {stage.launcher.pid}"


def corrupt(stage: Stage) -> str:
    """Flip one bit of one shard of the newest checkpoint. The next restore from storage passes over it."""
    if stage.backend is None:
        raise UsageError("corrupt needs the run's URL: a script's storage is not known here")
    committed = list(Catalog(stage.backend).committed())
    if len(committed) < 2:
        return "nothing is corrupted: there are not two checkpoints yet, and one of them must stay good"
    manifest = committed[0].manifest
    key = manifest.shard_key(stage.dice.randrange(manifest.world_size))
    size = stage.backend.size(key)
    at = stage.dice.randrange(size)
    _flip(stage.backend, key, at)
    return f"a bit of byte {at} of {key} is flipped"


def netdrop(stage: Stage) -> str:
    """Cut a network interface off, and bring it back after `outage_s` seconds."""
    if stage.interface is None:
        raise UsageError("netdrop needs --interface, the one that the run's hosts meet over")
    if Path("/proc/self/ns/net").stat().st_ino == Path("/proc/1/ns/net").stat().st_ino:
        raise UsageError("netdrop is for a network namespace of its own (ip netns exec ...): here it would cut you off")
    _set_link(stage.interface, "down")
    threading.Event().wait(stage.outage_s)
    _set_link(stage.interface, "up")
    return f"{stage.interface} was down for {stage.outage_s:g} s"


Fault = Callable[[Stage], str]

FAULTS: Final[dict[str, Fault]] = {
    "kill": kill,
    "kill-persister": kill_persister,
    "kill-launcher": kill_launcher,
    "hang": hang,
    "preempt": preempt,
    "corrupt": corrupt,
    "netdrop": netdrop,
}
RESTARTS_WORKERS: Final = frozenset({"kill", "hang"})
ENDS_LAUNCHER: Final = frozenset({"preempt", "kill-launcher"})


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # It went by itself.
        os.kill(pid, number)


def _flip(backend: Backend, key: str, at: int) -> None:
    content = bytearray(backend.read(key))
    content[at] ^= 1
    backend.put(key, content, overwrite=True)


def _set_link(interface: str, state: str) -> None:
    command = ["ip", "link", "set", "dev", interface, state]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(f"{' '.join(command)}: {done.stderr.strip()}")
