"""From what a configuration names to loggers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..errors import BadLogger
from .logger import Logger
from .to_mlflow import MLflow
from .to_tensorboard import TensorBoard
from .to_wandb import WandB

_OURS: Final[Mapping[str, Callable[..., Logger]]] = {"wandb": WandB, "mlflow": MLflow}


def open_loggers(tensorboard: str | None, named: Sequence[str | Mapping[str, Mapping[str, Any]]]) -> list[Logger]:
    """`named`: wandb, mlflow or module:Class, each alone or as {name: options}.

    Raises:
        BadLogger: one cannot be found or made; what is missing is named.
    """
    ours: list[Logger] = [TensorBoard(tensorboard)] if tensorboard is not None else []
    return ours + [_open(*_named(entry)) for entry in named]


def _named(entry: str | Mapping[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    return (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))


def _open(name: str, options: Mapping[str, Any]) -> Logger:
    make = _OURS.get(name) or _find(name)
    try:
        logger = make(**options)
    except TypeError as error:
        raise BadLogger(f"metrics.loggers: {name} cannot be made with the options {dict(options)}: {error}") from None
    if not isinstance(logger, Logger):
        raise BadLogger(f"metrics.loggers: {name} is no logger: it needs the methods begin, log and end")
    return logger


def _find(name: str) -> Callable[..., Logger]:
    module_name, _, class_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # As `python -m` does, and as a task is found.
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # What fails inside the user's module is shown as Python shows it.
        message = f"metrics.loggers: {name!r}: there is no module {error.name!r}, neither installed nor in {here}"
        raise BadLogger(message) from None
    found: Callable[..., Logger] | None = getattr(module, class_name, None)
    if found is None:
        raise BadLogger(f"metrics.loggers: {name!r}: {module_name} has no {class_name}")
    return found
