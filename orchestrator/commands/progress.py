"""How far a long command is: a bar with rate and time left on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from .sizes import size_text

EVERY_S: Final = 10.0

Advance = Callable[[int], object]
"""Told of every stretch of bytes that was done; by any thread."""


@contextmanager
def progress(what: str, total: Callable[[], int] | int, *, quiet: bool = False) -> Iterator[Advance]:
    """`total` bytes, asked for where it is shown. On stderr; nothing when `quiet`."""
    if quiet:
        yield lambda _: None
        return
    size = total if isinstance(total, int) else total()
    if not sys.stderr.isatty():
        yield Lines(what, size).advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=size)
        yield lambda count: bar.advance(task, count)


class Lines:
    """For a log: nothing for what is done in ten seconds, and one line every ten seconds for what is not."""

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._began = self._told = clock()
        self._done = 0
        self._lock = threading.Lock()

    def advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = self._clock()
            if now - self._told >= EVERY_S:
                self._told = now
                sys.stderr.write(f"relight: {line(self._what, self._done, self._total, now - self._began)}\n")
                sys.stderr.flush()


def line(what: str, done: int, total: int, seconds: float) -> str:
    """`verify: 1.2 GiB of 2.0 GiB (60%), 512.0 MiB/s, 2 s left`. Pure."""
    rate = done / seconds if seconds > 0 else 0.0
    share = f" ({done / total:.0%})" if total else ""
    left = f", {max(0, total - done) / rate:.0f} s left" if rate else ""
    return f"{what}: {size_text(done)} of {size_text(total)}{share}, {size_text(rate)}/s{left}"
