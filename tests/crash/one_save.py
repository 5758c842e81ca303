"""A process that saves and can be ended anywhere; it says `committed` or `failed REASON`."""

from __future__ import annotations

from relight.storage import sweep
from relight.storage.backends.open import open_backend
from relight.storage.retention import Rules
from relight.tests.crash.traced import serve
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
    sweep.maintain(backend, now, Rules(keep_last=KEEP_LAST))
    return "committed"


if __name__ == "__main__":
    serve(save)
