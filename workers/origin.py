"""What the launcher told this rank through the environment; the one place in this room that reads it for that."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..configs.protocol import (
    ENV_ATTEMPT,
    ENV_CONFIG,
    ENV_FAILURES,
    ENV_INCARNATION,
    ENV_MEMORY_DIR,
    ENV_RUN_DIR,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Under plain torchrun, or no launcher at all, every start is an incarnation of its own.

    `failures` is how many the launcher has seen in its `watched_s` seconds of life.
    """

    incarnation: str
    attempt: int
    rank: int
    run_dir: Path | None
    config: str | None
    local_world_size: int = 1
    world_size: int = 1
    memory_dir: Path | None = None
    failures: int = 0
    watched_s: float = 0.0


def origin(environ: Mapping[str, str] = os.environ) -> Origin:
    run_dir = environ.get(ENV_RUN_DIR)
    memory_dir = environ.get(ENV_MEMORY_DIR)
    failures, _, watched_s = environ.get(ENV_FAILURES, "0/0").partition("/")
    return Origin(
        incarnation=environ.get(ENV_INCARNATION) or uuid.uuid4().hex,
        attempt=int(environ.get(ENV_ATTEMPT, "1")),
        rank=int(environ.get("RANK", "0")),
        run_dir=Path(run_dir) if run_dir else None,
        config=environ.get(ENV_CONFIG),
        local_world_size=int(environ.get("LOCAL_WORLD_SIZE", "1")),
        world_size=int(environ.get("WORLD_SIZE", "1")),
        memory_dir=Path(memory_dir) if memory_dir else None,
        failures=int(failures),
        watched_s=float(watched_s),
    )
