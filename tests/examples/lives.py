"""Ranks that run an example one life after another, in forks of a process that has imported its framework once.

One rank of a life may end itself by SIGKILL behind a step; the launcher, which is this, then ends the others.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

import relight
from relight.workers.checkpoint.checkpointer import Checkpointer

RANKS: Final = 2


def main(script: str, framework: str, lives: str) -> None:
    """`lives`: of each its folder, and who dies behind which step ([] for nobody)."""
    importlib.import_module(framework)
    for folder, death in json.loads(lives):
        Path(folder).mkdir(exist_ok=True)
        _live(script, Path(folder), death)


def _live(script: str, folder: Path, death: list[int]) -> None:
    port = _free_port()
    ranks = [_fork(script, folder, rank, death, port) for rank in range(RANKS)]
    while ranks:
        pid, status = os.wait()
        ranks.remove(pid)
        code = os.waitstatus_to_exitcode(status)
        assert code == 0 or death, f"a rank has ended with {code}"
        if code == -signal.SIGKILL:
            for other in ranks:
                os.kill(other, signal.SIGKILL)


def _fork(script: str, folder: Path, rank: int, death: list[int], port: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    launcher = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(RANKS),
        "LOCAL_WORLD_SIZE": str(RANKS),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "lives",
    }
    os.environ.update(launcher)
    os.chdir(folder)
    _be_mortal(death[1] if death and death[0] == rank else 0)
    try:
        runpy.run_path(script, run_name="__main__")
    except BaseException:  # noqa: BLE001 -- a fork must end here, whatever happened
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    sys.stderr.flush()
    os._exit(0)


def _be_mortal(last_step: int) -> None:
    """Save often, as the state of the ranks of a plain launcher is gone with them; and die behind that step."""

    class Mortal(Checkpointer):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            settings = relight.CheckpointSettings(every=7, when_busy="wait")
            super().__init__(*arguments, settings=settings, **named)

        def step(self, **named: Any) -> bool:
            stopped = super().step(**named)
            if self.progress.step == last_step:
                os.kill(os.getpid(), signal.SIGKILL)
            return stopped

    relight.Checkpointer = Mortal  # type: ignore[misc]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
