"""What the launcher told this rank through the environment; the one place in this room that reads it for that."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..configs.protocol import ENV_ATTEMPT, ENV_CONFIG, ENV_INCARNATION, ENV_RUN_DIR


@dataclass(frozen=True, slots=True)
class Origin:
    """Under plain torchrun, or no launcher at all, every start is an incarnation of its own."""

    incarnation: str
    attempt: int
    rank: int
    run_dir: Path | None
    config: str | None


def origin(environ: Mapping[str, str] = os.environ) -> Origin:
    run_dir = environ.get(ENV_RUN_DIR)
    return Origin(
        incarnation=environ.get(ENV_INCARNATION) or uuid.uuid4().hex,
        attempt=int(environ.get(ENV_ATTEMPT, "1")),
        rank=int(environ.get("RANK", "0")),
        run_dir=Path(run_dir) if run_dir else None,
        config=environ.get(ENV_CONFIG),
    )
