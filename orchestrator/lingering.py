"""A rank that has said why it fails, and yet does not end: a thread, or a library's own goodbye, holds it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .environment import error_file

GRACE_S: Final = 10.0
"""What a failed rank gets for its goodbyes. Meanwhile its peers wait for it, in a collective."""


@dataclass(slots=True)
class Lingering:
    """Remembers since when each rank's report has been there."""

    run_dir: Path
    _since_s: dict[int, float] = field(init=False, default_factory=dict)

    def overstayed(self, running: Iterable[int], now_s: float) -> list[int]:
        """The ranks that still run though they have failed GRACE_S ago. `now_s` is on a clock that never goes back."""
        for rank in running:
            if rank not in self._since_s and error_file(self.run_dir, rank).exists():
                self._since_s[rank] = now_s
        return [rank for rank in running if now_s - self._since_s.get(rank, now_s) >= GRACE_S]
