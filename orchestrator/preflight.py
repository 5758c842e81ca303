"""What is checked before anything is started, without torch: a mistake is answered in a fraction of a second."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..configs.errors import ConfigError
from ..configs.load import load
from ..configs.schema import Config
from ..configs.values import LOGGERS
from ..storage import runs
from ..storage.backends.base import Backend
from ..storage.backends.open import open_backend
from ..storage.errors import BadUrl, NotExclusive, OtherRun, StorageError, Superseded
from .commandline import Command, Target
from .errors import PreflightFailed, UsageError
from .judging.failures import FailureClass


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
        _check_programs(config)
        backend = open_backend(config.storage.url)
        runs.check(backend, config.identity, single_writer=config.storage.single_writer)
    except (ConfigError, StorageError) as error:
        raise PreflightFailed(str(error)) from error
    return config, backend


def _check_programs(config: Config) -> None:
    named = [each if isinstance(each, str) else next(iter(each)) for each in config.metrics.loggers]
    needed = [("metrics.tensorboard", "tensorboard")] if config.metrics.tensorboard is not None else []
    needed += [("metrics.loggers", name) for name in named if name in LOGGERS]
    for option, package in needed:
        if find_spec(package) is None:
            raise PreflightFailed(
                f"{option} needs a package that is not installed. Install it (pip install {package}), "
                "or leave the option out"
            )


def storage_errors() -> dict[str, FailureClass]:
    """What an exception means by which a worker says that its storage is in trouble, by the class's qualified name."""
    found = {f"{kind.__module__}.{kind.__name__}": _meaning(kind) for kind in _family(StorageError)}
    # By name: the rooms do not import each other.
    return found | {f"{__name__.partition('.')[0]}.workers.errors.StorageTrouble": FailureClass.STORAGE}


def _meaning(kind: type[StorageError]) -> FailureClass:
    """As `workers` would answer, for a script that calls the storage itself."""
    if issubclass(kind, BadUrl | NotExclusive | OtherRun):
        return FailureClass.BAD_CONFIG
    return FailureClass.GAVE_UP if issubclass(kind, Superseded) else FailureClass.STORAGE


def _family(kind: type[StorageError]) -> list[type[StorageError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _family(child))]
