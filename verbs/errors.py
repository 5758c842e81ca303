"""What stopped a command, in one line, and the exit code that goes with it."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import Final

from ..configs.protocol import ExitCode

_UNPRINTABLE: Final = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Of an error that no storage has translated: stdout is a full disk, or nobody reads it any more."""


def foreseen(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code for an error that is an answer to the user; None for a bug. No line: nobody reads."""
    from ..orchestrator.errors import LaunchError
    from ..storage.errors import StorageError
    from ..workers.errors import WorkerError

    if isinstance(error, LaunchError | WorkerError):
        return str(error), error.exit_code
    if isinstance(error, StorageError):
        return str(error), ExitCode.FAILED
    if isinstance(error, OSError) and error.filename is not None and error.strerror:  # A file that the user named.
        return f"{error.filename}: {error.strerror}", ExitCode.FAILED
    if isinstance(error, OSError) and error.errno in _UNPRINTABLE:
        _print_no_more()
        return "" if error.errno == errno.EPIPE else f"cannot print: {error.strerror}", ExitCode.FAILED
    return None


def _print_no_more() -> None:
    """What is left to be printed goes nowhere: the interpreter would stumble over it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class _OurLines(logging.Handler):
    """To whatever stderr is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


def say(line: str) -> None:
    sys.stderr.write(f"relight: {line}\n")


def log_as_we_speak() -> None:
    """What the storage warns of while a command works is one of our lines too."""
    ours = logging.getLogger(__package__.partition(".")[0])
    if not ours.handlers:
        handler = _OurLines(logging.WARNING)
        handler.setFormatter(logging.Formatter("relight: %(message)s"))
        ours.addHandler(handler)
