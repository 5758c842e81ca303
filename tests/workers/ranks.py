"""Real ranks for tests: a process each, joined by gloo, as torchrun would start them.

`answers = play("relight.tests.workers.scenes:scene", world_size, directory)`: each rank joins, calls the scene with
its World and leaves its answer, which has to be JSON. The ranks are forked from a process that has imported torch
(`forge`), for importing it takes longer than all the scenes.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import socket
import tempfile
import traceback
from pathlib import Path
from typing import Any

from relight.tests.workers import forge


def play(scene: str, world_size: int, directory: Path) -> list[Any]:
    """Every rank's answer, in order of rank. AssertionError with the output when a rank fails."""
    launcher = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(world_size)}
    with tempfile.NamedTemporaryFile() as output:
        failed = forge.run("relight.tests.workers.ranks:main", [scene, str(directory)], launcher, Path(output.name))
        assert not failed, f"{scene}:\n{output.read().decode(errors='replace')}"
    return [json.loads(_answer(directory, rank).read_text()) for rank in range(world_size)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answer(directory: Path, rank: int) -> Path:
    return directory / f"answer-{rank}.json"


def main(name: str, directory: str) -> None:
    """All ranks; the first failure ends the others, which would wait for it."""
    module, _, function = name.partition(":")
    scene = getattr(importlib.import_module(module), function)
    ranks = [_fork(scene, rank, Path(directory)) for rank in range(int(os.environ["WORLD_SIZE"]))]
    try:
        while ranks:
            pid, status = os.wait()
            ranks.remove(pid)
            if status:
                raise ChildProcessError(f"a rank has ended with {os.waitstatus_to_exitcode(status)}")
    finally:
        for other in ranks:
            os.kill(other, signal.SIGKILL)


def _fork(scene: Any, rank: int, directory: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _rank(scene, rank, directory)
    except BaseException:  # noqa: BLE001 -- a fork must end here, whatever happened
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _rank(scene: Any, rank: int, directory: Path) -> None:
    from relight.workers.parallel import join, leave

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    world = join()
    # A scene that asks for the directory leaves more in it than its answer.
    arguments = (world, directory)[: len(inspect.signature(scene).parameters)]
    _answer(directory, rank).write_text(json.dumps(scene(*arguments)))
    leave()
