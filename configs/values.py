"""What a value may be: the kinds of numbers and text that the options take, each refused with what is expected."""

from __future__ import annotations

import re
from math import inf
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from . import errors
from .every import Every

_TASK: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_ADDRESS: Final = re.compile(r"([^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")
LOGGERS: Final = ("wandb", "mlflow")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def run_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("expected up to 100 letters, digits, '.', '_' and '-', starting with a letter or digit")
    return value


def task(value: str) -> str:
    if not _TASK.fullmatch(value):
        raise ValueError("expected module:Class, for example relight.workers.tasks.digits:Digits")
    return value


def url(value: str) -> str:
    if not value.strip():
        raise ValueError("expected a directory or a URL")
    if errors.PASSWORD.search(value):
        raise ValueError(
            "expected a URL without a password, which would end up in logs and in the run's own files; "
            "leave credentials to the environment"
        )
    return value


def http(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("expected a URL that begins with http:// or https://")
    return value.rstrip("/")


def save_every(value: object) -> object:
    try:
        return value if value == "auto" or isinstance(value, Every) else Every.parse(value)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def memory_every(value: object) -> object:
    if value in ("auto", "never") or (type(value) is int and value >= 1):
        return value
    raise ValueError("expected auto, never, or a number of steps of at least 1")


def trace_path(value: str) -> str:
    if "{rank}" not in value:
        raise ValueError("expected a path with {rank} in it, or all ranks would write one file")
    return value


def listening(value: object) -> object:
    """As "host:port"; a port alone is served to this host only."""
    text = f"127.0.0.1:{value}" if type(value) is int or (isinstance(value, str) and value.isdecimal()) else value
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if value is not None and (match is None or int(match["port"]) > 65535):
        raise ValueError('expected a port (9400: for this host alone) or "host:port" ("0.0.0.0:9400")')
    return text


def logger(value: object) -> object:
    """A name, or a name with its options: {wandb: {project: mine}}."""
    name, options = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else (value, {})
    if name not in LOGGERS and not (isinstance(name, str) and _TASK.fullmatch(name)):
        raise ValueError("expected wandb, mlflow, or module:Class, alone or with options: {wandb: {project: mine}}")
    if not isinstance(options, dict):
        raise ValueError(f"expected the options of {name} as {{name: value}}")  # noqa: TRY004 -- pydantic's way
    return value


def nproc(value: object) -> object:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError("expected auto or a whole number of at least 1")


def timeout(value: object) -> object:
    if value in ("auto", "never") or (type(value) in (int, float) and 0 < value < inf):  # type: ignore[operator]
        return value
    raise ValueError("expected auto, never, or seconds greater than 0")


def expression(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a regular expression, and it is none: {error}") from None
    return value


Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
PositiveAmount = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="constants")
