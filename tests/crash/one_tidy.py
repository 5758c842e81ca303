"""A process that makes one pass of retention and sweep and can be ended anywhere."""

from __future__ import annotations

from relight.storage import sweep
from relight.storage.backends.open import open_backend
from relight.storage.retention import Rules
from relight.tests.crash.traced import serve
from relight.tests.storage.checkpoints import attempt_id

NEWEST = 60
KEEP_LAST = 1


def tidy(url: str) -> str:
    deleted = sweep.maintain(open_backend(url), attempt_id(NEWEST), Rules(keep_last=KEEP_LAST))
    return f"deleted {len(deleted)}"


if __name__ == "__main__":
    serve(tidy)
