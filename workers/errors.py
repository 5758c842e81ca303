"""What can go wrong in a rank, each with the exit code that tells the launcher what to make of it.

A `WorkerError` is an answer to the user: it is printed without a traceback. Everything else is a bug and keeps its own.
"""

from __future__ import annotations

from typing import ClassVar

from ..configs.protocol import ExitCode


class WorkerError(Exception):
    """Root of everything this room raises on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.GAVE_UP


class BadTask(WorkerError):
    """The task cannot be found, built or used: the config, or the task's own code, has to change."""

    exit_code = ExitCode.BAD_CONFIG


class BadLogger(WorkerError):
    """A logger cannot be found or made, or what it needs is not installed."""

    exit_code = ExitCode.BAD_CONFIG


class BadBatchSize(WorkerError):
    """The batches cannot be divided over the ranks."""

    exit_code = ExitCode.BAD_CONFIG


class BadOrder(WorkerError):
    """The order of the samples does not fit the data."""

    exit_code = ExitCode.BAD_CONFIG


class BadWorld(WorkerError):
    """The environment that a launcher gives a rank is incomplete, or asks for a device that the host lacks."""

    exit_code = ExitCode.BAD_CONFIG


class NotCaptured(WorkerError):
    """Some state cannot be saved without pickle. Found at the first save, before anything depends on it."""

    exit_code = ExitCode.BAD_CONFIG


class StateMismatch(WorkerError):
    """The checkpoint's state does not fit the live model or optimizer. Nothing was applied."""

    exit_code = ExitCode.BAD_CONFIG


class BadWeights(WorkerError):
    """The weights that a run is to begin with cannot be found or read, or `init_from` chooses none of them."""

    exit_code = ExitCode.BAD_CONFIG


class NotExported(WorkerError):
    """What an export is asked for does not fit the checkpoint or the place. Nothing was written."""

    exit_code = ExitCode.FAILED


class NotImported(WorkerError):
    """A file cannot be brought into a run: it is no checkpoint, or what is in it cannot be told apart."""

    exit_code = ExitCode.FAILED


class StorageRefused(WorkerError):
    """Rank 0 could not open, read or claim the run's storage; every rank raises the same."""

    exit_code = ExitCode.BAD_CONFIG


class SavesKeepFailing(WorkerError):
    """So many saves in a row have failed that going on would only lose more when the run ends."""


class Fenced(WorkerError):
    """A newer launcher goes on with this run; this one must stop."""


class StorageTrouble(WorkerError):
    """The storage did not answer. Starting again may help."""

    exit_code = ExitCode.FAILED
