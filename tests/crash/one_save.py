"""A process that saves and can be ended anywhere: forked, ready, by a server that has imported everything already.

`python -m relight.tests.crash.one_save` reads lines: `URL` forks a saver and prints its process id; `go` lets it run
and prints how it ended: `committed`, `failed REASON`, or `killed`.
"""

from __future__ import annotations

import os
import sys

from relight.storage import sweep
from relight.storage.backends.open import open_backend
from relight.tests.storage.checkpoints import attempt_id, persist_rank

STEP = 20
KEEP_LAST = 2


def save(url: str) -> str:
    """Both ranks, one after the other, then retention; what the trainer is told."""
    backend = open_backend(url)
    now = attempt_id(STEP)
    outcomes = [persist_rank(backend, now, rank) for rank in (1, 0)]
    if not outcomes[1].committed:
        return f"failed {outcomes[0].failed or outcomes[1].failed}"
    sweep.tidy(backend, now, keep_last=KEEP_LAST)
    return "committed"


def _serve() -> None:
    for line in sys.stdin:
        url = line.strip()
        ready, go = os.pipe()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(ready, 1)
            os.write(tell, save(url).encode())
            os._exit(0)
        os.close(ready)
        os.close(tell)
        print(child, flush=True)
        assert sys.stdin.readline().strip() == "go"
        os.write(go, b"!")
        os.close(go)
        os.waitpid(child, 0)
        print(os.read(told, 1 << 16).decode() or "killed", flush=True)
        os.close(told)


if __name__ == "__main__":
    _serve()
