"""What ends a launch before or beside the workers: one clear line for the user, and the exit code that goes with it."""

from __future__ import annotations

from ..configs.protocol import ExitCode


class LaunchError(Exception):
    """Root of everything this room raises on purpose: printed as one line, never with a traceback of ours."""

    exit_code: ExitCode = ExitCode.GAVE_UP


class UsageError(LaunchError):
    """The command line cannot be understood, or asks for something that is not there."""

    exit_code = ExitCode.USAGE


class PreflightFailed(LaunchError):
    """Configuration or storage do not fit; nothing was started and nothing was changed."""

    exit_code = ExitCode.BAD_CONFIG


class RendezvousFailed(LaunchError):
    """The hosts did not find together."""


class HostsMissing(LaunchError):
    """There was a round of hosts, and now there are too few for another one: a scheduler may bring them back."""

    exit_code = ExitCode.PREEMPTED


class RunEnded(LaunchError):
    """Another host has ended the run, for all of them; this one ends in the same way."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code)


class ZygoteDied(LaunchError):
    """The process that starts the workers is gone and cannot be had again."""


class Stopped(LaunchError):
    """A signal asked the launcher to stop while no worker was running."""

    exit_code = ExitCode.PREEMPTED
