"""What a rank has to say to the launcher's journal: JSON lines in a file per rank, which its launcher reads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


def events_path(run_dir: Path, rank: int) -> Path:
    return run_dir / f"events-{rank:05d}.jsonl"


class Events:
    """A rank's own file. Telling never fails for the launcher's sake: it may be gone, and nobody else reads this."""

    def __init__(self, run_dir: Path | None, rank: int) -> None:
        """None: nobody listens."""
        self._path = events_path(run_dir, rank) if run_dir is not None else None
        self._rank = rank

    def tell(self, event: str, **facts: Any) -> None:
        """`facts` are plain values; the time is added."""
        if self._path is None:
            return
        line = json.dumps({"event": event, "at": time.time(), "rank": self._rank, **facts}) + "\n"
        try:
            with self._path.open("a") as file:
                file.write(line)
        except OSError:
            self._path = None


def read_events(run_dir: Path) -> list[dict[str, Any]]:
    """Everything that all ranks have told, in the order of their clocks; a line that was cut short is left out."""
    found: list[dict[str, Any]] = []
    for path in run_dir.glob("events-*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        found.extend(json.loads(line) for line in lines if line.endswith("\n"))
    return sorted(found, key=lambda event: float(event["at"]))
