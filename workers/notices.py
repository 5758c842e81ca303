"""One line to the person watching, on standard error, whatever logging the script has set up."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Rank 0 alone says things that are true of the whole run; the caller sees to that."""
    sys.stderr.write(f"relight: {line}\n")
    sys.stderr.flush()
