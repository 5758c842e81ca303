"""Python stacks on demand: a worker that is sent `STACKS` writes where all its threads are, whatever they do.

The signal is a real-time one: SIGUSR1 and SIGUSR2 are notices of schedulers, and profilers and scripts take them, too.
A program that replaces the worker (`exec`) does not have the handler, and would die of the signal: ask `listens` first.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from pathlib import Path
from typing import Final

STACKS: Final = signal.SIGRTMAX - 2


def stacks_file(run_dir: Path, rank: int) -> Path:
    """Its first line is the main thread's number, as it stands in the stacks below."""
    return run_dir / f"stacks-{rank:05d}.txt"


def answer_with_stacks(run_dir: Path, rank: int) -> None:
    """In a worker: from here on to its end. The handler is C: it needs neither the interpreter nor the GIL."""
    descriptor = os.open(stacks_file(run_dir, rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{threading.get_ident():#018x}\n".encode())
    faulthandler.register(STACKS, descriptor, all_threads=True, chain=False)


def listens(pid: int) -> bool:
    """Whether the process has a handler for `STACKS` now."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (STACKS - 1) & 1)
