"""Where the workers' words go: to the terminal, to files that every attempt keeps, or nowhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.elastic.multiprocessing import Std


@dataclass(frozen=True, slots=True)
class Streams:
    """Where each local rank's stdout and stderr go. Both maps name the local ranks that write to a file instead of
    the terminal; `shown` are the local ranks that may use the terminal at all, None: all.
    """

    log_dir: Path | None = None
    redirects: Std | Mapping[int, Std] = Std.NONE
    shown: frozenset[int] | None = None

    def folder(self, attempt: int) -> Path | None:
        """Where what an attempt leaves is kept."""
        return self.log_dir / f"attempt_{attempt}" if self.log_dir is not None else None

    def files(self, local_rank: int, attempt: int) -> tuple[str | None, str | None]:
        """Paths for stdout and stderr, None for the launcher's own. Every attempt keeps its files."""
        folder = self.folder(attempt)
        redirect = self.redirects if isinstance(self.redirects, Std) else self.redirects.get(local_rank, Std.NONE)
        console = None if self.shown is None or local_rank in self.shown else os.devnull
        if redirect is Std.NONE or folder is None:
            return console, console
        directory = folder / str(local_rank)
        directory.mkdir(parents=True, exist_ok=True)
        stdout = str(directory / "stdout.log") if redirect & Std.OUT else console
        stderr = str(directory / "stderr.log") if redirect & Std.ERR else console
        return stdout, stderr
