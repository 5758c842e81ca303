"""The run's goodput as its launcher has it, for a worker that shows it: a number in a file in shared memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_NAME: Final = "goodput"


def write_goodput(scratch: Path, goodput: float) -> None:
    """`scratch` holds the run directories of the attempts. A reader sees one number or the other."""
    partial = scratch / f"{_NAME}.partial"
    try:
        partial.write_text(f"{goodput:.6f}", encoding="utf-8")
        partial.replace(scratch / _NAME)
    except OSError:
        return  # Nothing depends on it.


def read_goodput(run_dir: Path) -> float | None:
    """For a worker, by its own run directory; None before the launcher has said anything."""
    try:
        return float((run_dir.parent / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
