"""Real ranks: processes joined by gloo, forked from this one, which has imported torch and done nothing with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from .processes import adopt_orphans, die_with_parent

_LOOK_S: Final = 0.02

Scene = Callable[..., Any]


class RankFailed(Exception):
    """A rank has failed, or all together took too long. Its own traceback stands above."""


def play(
    scene: Scene,
    ranks: int,
    arguments: Mapping[str, Any],
    *,
    watch: Callable[[], None] | None = None,
    deadline_s: float = 1800.0,
) -> list[Any]:
    """Call `scene(**arguments)` on `ranks` fresh processes of one gloo group; their answers (JSON), by rank.

    `watch` is called every 20 ms meanwhile. The ranks share the cores: each gets its part of them in threads.

    Raises:
        RankFailed: on the first failure, after the other ranks were killed.
    """
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        port = free_port()
        living = {_fork(scene, rank, ranks, port, arguments, Path(folder)): rank for rank in range(ranks)}
        try:
            _wait(living, watch, time.monotonic() + deadline_s)
        finally:
            for pid in living:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(ranks)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _wait(living: dict[int, int], watch: Callable[[], None] | None, ends_at: float) -> None:
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        rank = living.pop(pid, None)  # None: an orphan of theirs.
        if rank is not None and status:
            message = f"rank {rank} ended with {os.waitstatus_to_exitcode(status)}"
            raise RankFailed(message)
        if time.monotonic() > ends_at:
            message = f"the ranks {sorted(living.values())} are not done in time"
            raise RankFailed(message)
        if not pid:
            if watch is not None:
                watch()
            pause(_LOOK_S)


def _fork(scene: Scene, rank: int, ranks: int, port: int, arguments: Mapping[str, Any], folder: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent()
        os.environ.update(_environment(rank, ranks, port))
        (folder / f"{rank}.json").write_text(json.dumps(_joined(scene, ranks, arguments)))
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 -- a fork must end here, whatever happened
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """As torchrun sets it."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    return {name: str(value) for name, value in own.items()} | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "benchmark",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }


def _joined(scene: Scene, ranks: int, arguments: Mapping[str, Any]) -> Any:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))
    dist.init_process_group("gloo")
    answer = scene(**arguments)
    dist.barrier()
    return answer
