"""Real ranks for tests: a process each, joined by gloo, as torchrun would start them.

`answers = play("relight.tests.workers.scenes:scene", world_size, directory)`: each rank joins, calls the scene with
its World and leaves its answer, which has to be JSON. The ranks are forked from a process that has imported torch,
for importing it takes longer than all the scenes.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

_DEADLINE_S = 120


def play(scene: str, world_size: int, directory: Path) -> list[Any]:
    """Every rank's answer, in order of rank. AssertionError with the output when a rank fails."""
    launcher = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(world_size)}
    machine = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", "from relight.tests.workers.ranks import main; main()", scene, str(directory)],
        env={**os.environ, **launcher, **machine},
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, f"{scene}:\n{done.stdout}{done.stderr}"
    return [json.loads(_answer(directory, rank).read_text()) for rank in range(world_size)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answer(directory: Path, rank: int) -> Path:
    return directory / f"answer-{rank}.json"


def main() -> None:
    """All ranks; the first failure ends the others, which would wait for it."""
    import torch._dynamo  # noqa: F401 -- DDP imports it when it is first built

    name, directory = sys.argv[1:]
    module, _, function = name.partition(":")
    scene = getattr(importlib.import_module(module), function)
    ranks = [_fork(scene, rank, Path(directory)) for rank in range(int(os.environ["WORLD_SIZE"]))]
    while ranks:
        pid, status = os.wait()
        ranks.remove(pid)
        if status:
            for other in ranks:
                os.kill(other, signal.SIGKILL)
            sys.exit(1)


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
