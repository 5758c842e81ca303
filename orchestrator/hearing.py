"""What the workers of an attempt tell, into the journal while they run: nothing of it may wait for their end.

Points of the loss come five a second at first, and fewer later; they are gathered, and become one line of the journal
every ten seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from ..configs.events import Told

_FIRST_S: Final = 1.0
"""And then after twice as long each time: of a short attempt something is known too."""
_EVERY_S: Final = 10.0


class Record(Protocol):
    def __call__(self, event: str, **facts: Any) -> None: ...


class Hearing:
    """`record` writes to the journal; `stores` is told the storage's URL, when a worker says where its run lives."""

    def __init__(
        self,
        run_dir: Path,
        record: Record,
        stores: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._told = Told(run_dir)
        self._record = record
        self._stores = stores
        self._clock = clock
        self._pause_s = _FIRST_S
        self._due = clock() + self._pause_s

    def listen(self) -> None:
        """To be called often."""
        if self._clock() >= self._due:
            self._pause_s = min(2 * self._pause_s, _EVERY_S)
            self._due = self._clock() + self._pause_s
            self.take()

    def take(self) -> None:
        """Everything that was told and not heard yet."""
        points = []
        for event in self._told.news():
            if event["event"] == "point":
                points.append([event["at"], event["step"], event["loss"]])
                continue
            if event["event"] in {"resumed", "stores"}:
                self._stores(str(event.get("url", "")))
            if event["event"] != "stores":
                self._record(**event)
        if points:
            self._record("points", points=points)
