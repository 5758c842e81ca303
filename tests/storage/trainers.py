"""Trainers that die: each hands one save to its persister's process, and is killed as soon as it is told to be.

`from relight.tests.storage.trainers import Trainer`
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from relight.storage.persister_process import ProcessPersister
from relight.storage.shared_memory import SharedMemory
from relight.storage.staged import Staged
from relight.tests.storage.checkpoints import attempt_id, job, shard


class Trainer:
    """A process with a persister, ready to submit. `persister` is the number of the persister's process."""

    def __init__(
        self, url: str, rank: int = 0, world_size: int = 1, *, step: int = 10, seal: Path | None = None
    ) -> None:
        words = [url, *map(str, (rank, world_size, step)), str(seal or "")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.persister, self.loader = map(int, self.process.stdout.readline().split())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for pid in (self.persister, self.loader):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def submit_and_die(self) -> None:
        """It is dead when this returns; its persister may not have read what it was sent, nor have noticed."""
        assert self.process.stdin is not None
        self.process.stdin.write("now\n")
        self.process.stdin.flush()
        assert self.process.wait(60) == -signal.SIGKILL

    def die(self) -> None:
        """Without a word."""
        self.process.kill()
        self.process.wait()


def main() -> None:
    url, rank, world_size, step = sys.argv[1], *map(int, sys.argv[2:5])
    seal = Path(sys.argv[5]) if sys.argv[5] else None
    persister = ProcessPersister(url, rank=rank)
    persister.prepare()
    assert persister._life is not None
    loader = os.fork()
    if loader == 0:  # As a loader worker, that holds all its trainer held and lives longer.
        signal.pause()
    data = shard(step, rank, world_size)
    memory = SharedMemory.create(len(data))
    memory.view[:] = data
    sys.stdout.write(f"{persister._life.process.pid} {loader}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    work = job(attempt_id(step), rank, world_size, deadline_s=600.0)
    persister.submit(work, Staged(descriptor=memory.descriptor, view=memory.view, seal=seal))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
