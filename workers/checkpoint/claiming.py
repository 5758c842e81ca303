"""Under which generation a worker group writes: claimed by rank 0, known to all."""

from __future__ import annotations

import socket
import uuid
from typing import Any

from ...storage import generations
from ...storage.backends.base import Backend
from ...storage.layout import AttemptId
from ..origin import Origin
from .collective import Circle
from .lead import from_rank_zero
from .saving import Lineage


def claim(
    backend: Backend, circle: Circle, origin: Origin, *, run: str, step: int | None, resumed_from: AttemptId | None
) -> Lineage:
    """The lineage of everything that this worker group will save. A collective; raises as `from_rank_zero` does.

    `step` is the one it goes on from, None from nothing; `resumed_from` the committed checkpoint of it, if there is
    one: what was remembered may be newer than all of them.
    """

    def on_rank_zero() -> dict[str, Any]:
        generation = generations.claim(
            backend,
            incarnation=origin.incarnation,
            resumed_from=step,
            host=socket.gethostname(),
        )
        if resumed_from is not None:
            # Until the claim an old launcher that still lives may have let go of it; if so, choose again.
            backend.size(resumed_from.manifest_key)
        return {"generation": generation.number, "attempt": origin.attempt, "token": uuid.uuid4().hex}

    return Lineage(run=run, url=backend.url, resumed_from=resumed_from, **from_rank_zero(circle, on_rank_zero))
