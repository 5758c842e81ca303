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


class Told:
    """Reads on in what the ranks tell. A line that is not whole yet is left for the next time."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._read: dict[Path, int] = {}

    def news(self) -> list[dict[str, Any]]:
        """What all ranks have told since the last time, in the order of their clocks."""
        found: list[dict[str, Any]] = []
        for path in self._run_dir.glob("events-*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            found.extend(json.loads(line) for line in whole.splitlines())
        return sorted(found, key=lambda event: float(event["at"]))


def read_events(run_dir: Path) -> list[dict[str, Any]]:
    """Everything that all ranks have told."""
    return Told(run_dir).news()
