"""Scalars for TensorBoard. Steps that are done again after a restart are shown once, in their order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .logger import Outcome, RunFacts
from .requiring import require

_FILES: Final = "events.out.tfevents.*"
_LONGEST_WAIT_S: Final = 2.0


class TensorBoard:
    """Writes event files to `folder`: a directory, or a URL that TensorBoard's writer knows."""

    def __init__(self, folder: str | Path) -> None:
        require("tensorboard", "tensorboard", "TensorBoard")
        self._folder = str(folder)
        self._writer: Any = None  # Its methods have no types.
        self._first_step = 0
        self._written_before: set[str] | None = None

    def begin(self, run: RunFacts) -> None:
        from torch.utils.tensorboard import SummaryWriter  # Seconds of imports that a run without it need not pay for.

        come_after(Path(self._folder), time.time, threading.Event().wait)
        self._first_step = run.first_step
        # Whatever an earlier life wrote beyond the step that this one goes on from is done again.
        self._writer = SummaryWriter(self._folder, purge_step=run.first_step + 1)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        shown = self._shown() if step == self._first_step else set()
        for tag, value in scalars.items():
            if tag not in shown:
                self._writer.add_scalar(tag, value, step)
        self._writer.flush()  # A step that is not done again must not be missing after a SIGKILL.

    def end(self, outcome: Outcome) -> None:  # noqa: ARG002 -- the protocol's; nothing shows it
        if self._writer is not None:
            self._writer.close()

    def _shown(self) -> set[str]:
        """What is there of the first step: an evaluation after a save is done again by a life that begins with it."""
        if self._written_before is None:
            self._written_before = set(_tags(Path(self._folder), self._first_step))
        return self._written_before


def come_after(folder: Path, clock: Callable[[], float], pause: Callable[[float], object]) -> None:
    """Wait until a new file is the last one by name, in which there are whole seconds: it is read in that order."""
    seconds = [int(part) for path in folder.glob(_FILES) if (part := path.name.split(".")[3]).isdecimal()]
    wait_s = max(seconds, default=-1) + 1 - clock()
    if 0 < wait_s <= _LONGEST_WAIT_S:
        pause(wait_s)


def _tags(folder: Path, step: int) -> Iterator[str]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for path in folder.glob(_FILES):
        for event in EventFileLoader(str(path)).Load():
            if event.step == step and event.HasField("summary"):
                yield from (value.tag for value in event.summary.value)
