"""The small task at a walking pace, so that a server can die and come back while it trains."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from relight.configs.protocol import ENV_RUN_DIR
from relight.tests.e2e.tiny_task import Tiny

PACE_S: Final = 0.1
"""What a step takes at least."""
HEARTBEATS: Final = "heartbeats"
"""The note that says where the launcher reads them."""
HURRY: Final = "hurry"
"""The note that ends the pacing."""
LAST: Final = "last"
"""The note that says, from the start, after which step the run is to be told to stop."""


class Paced(Tiny):
    def __init__(self, train: Any, *, notes: str, width: int = 32) -> None:
        super().__init__(train, notes=notes, width=width)
        self._hurry = Path(notes) / HURRY
        last = Path(notes) / LAST
        self._last = int(last.read_text()) if last.exists() else -1
        if self.rank == 0:
            (Path(notes) / HEARTBEATS).write_text(os.environ[ENV_RUN_DIR])

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        if not self._hurry.exists():
            threading.Event().wait(PACE_S)
        assert self.schedule is not None
        if self.schedule.last_epoch + 1 == self._last - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # A notice in one step ends the run with the next, on all ranks.
        return super().loss(model, batch)
