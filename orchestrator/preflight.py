"""What is checked before anything is started, without torch: a mistake is answered in a fraction of a second."""

from __future__ import annotations

from pathlib import Path

from ..configs.errors import ConfigError
from ..configs.load import load
from ..configs.schema import Config
from ..storage import runs
from ..storage.backends.base import Backend
from ..storage.backends.open import open_backend
from ..storage.errors import StorageError
from .commandline import Command, Target
from .errors import PreflightFailed, UsageError


def check(command: Command) -> tuple[Config, Backend] | None:
    """The configuration and its run's storage, or None when the command names no configuration.

    Raises:
        PreflightFailed: the configuration is wrong, the storage cannot be used, or it holds another run.
        UsageError: the script is not there.
    """
    if command.kind is Target.SCRIPT and not Path(command.target).exists():
        raise UsageError(f"{command.target} cannot be run: there is no such file in {Path.cwd()}")
    if command.kind is not Target.CONFIG:
        return None
    try:
        config = load(command.target, command.rest)
        backend = open_backend(config.storage.url)
        runs.check(backend, config.identity, single_writer=config.storage.single_writer)
    except (ConfigError, StorageError) as error:
        raise PreflightFailed(str(error)) from error
    return config, backend


def storage_errors() -> frozenset[str]:
    """Names of the exceptions by which a worker says that its storage is in trouble."""
    names = {"StorageTrouble", StorageError.__name__}
    pending = StorageError.__subclasses__()
    while pending:
        kind = pending.pop()
        names.add(kind.__name__)
        pending += kind.__subclasses__()
    return frozenset(names)
