"""The only words that workers and orchestrator share: environment names and exit codes.

The two rooms never import each other. What the launcher wants a worker to know goes through one of the
environment variables below; what a worker wants the launcher to know is its exit code, its heartbeat
(`configs/heartbeat.py`) and, when it fails, its failure report (`configs/failure.py`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """What the exit code of a worker, and of `relight run` itself, says. Numbers follow BSD `sysexits.h`."""

    FINISHED = 0
    FAILED = 1
    """The command was understood and the answer is no: `relight verify` found damage."""
    USAGE = 2
    """The command line itself is wrong."""
    GAVE_UP = 70
    """Restarting cannot help: a bug that repeats, or the restart budget is spent."""
    PREEMPTED = 75
    """Told to stop. The state is committed: run the same command again."""
    BAD_CONFIG = 78
    """Configuration, storage or model do not fit. Nothing was changed; the message says what to change."""
    INTERRUPTED = 130
    """A second Ctrl-C: stopped at once, without a save."""


# Launcher to worker. Beside these a worker gets every variable that torchrun sets (RANK, WORLD_SIZE, ...).
ENV_CONFIG: Final = "RELIGHT_CONFIG"
"""The resolved configuration as JSON; unset when a user's own script is run."""
ENV_INCARNATION: Final = "RELIGHT_INCARNATION"
"""Random token of one launcher's life. Attempts of the same incarnation write under one generation."""
ENV_ATTEMPT: Final = "RELIGHT_ATTEMPT"
"""Which start of the worker group this is within the incarnation: 1, 2, 3, ..."""
ENV_RUN_DIR: Final = "RELIGHT_RUN_DIR"
"""Host-local scratch directory of the launcher: heartbeats and failure reports of this attempt's ranks."""
ENV_MEMORY_DIR: Final = "RELIGHT_MEMORY_DIR"
"""Host-local directory in a memory filesystem that outlives the workers, but not the launcher; unset: there is none."""
ENV_FAILURES: Final = "RELIGHT_FAILURES"
"""What this launcher has seen so far, as "failures/seconds": 3/86400."""
