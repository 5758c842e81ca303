"""What can be configured, its defaults and its limits. Each option's meaning and unit stand in `reference.yaml`."""

from __future__ import annotations

import re
from math import inf
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictStr,
    ValidationInfo,
    field_validator,
)

from . import errors
from .every import Every

_TASK: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_ADDRESS: Final = re.compile(r"([^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SECTIONS: Final = (
    "task_args",
    "train",
    "data",
    "checkpoint",
    "storage",
    "restart",
    "hang",
    "preemption",
    "launch",
    "log",
    "metrics",
)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("expected up to 100 letters, digits, '.', '_' and '-', starting with a letter or digit")
    return value


def _task(value: str) -> str:
    if not _TASK.fullmatch(value):
        raise ValueError("expected module:Class, for example relight.workers.tasks.digits:Digits")
    return value


def _url(value: str) -> str:
    if not value.strip():
        raise ValueError("expected a directory or a URL")
    if errors.PASSWORD.search(value):
        raise ValueError(
            "expected a URL without a password, which would end up in logs and in the run's own files; "
            "leave credentials to the environment"
        )
    return value


def _http(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("expected a URL that begins with http:// or https://")
    return value.rstrip("/")


def _save_every(value: object) -> object:
    try:
        return value if value == "auto" or isinstance(value, Every) else Every.parse(value)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def _memory_every(value: object) -> object:
    if value in ("auto", "never") or (type(value) is int and value >= 1):
        return value
    raise ValueError("expected auto, never, or a number of steps of at least 1")


def _trace(value: str) -> str:
    if "{rank}" not in value:
        raise ValueError("expected a path with {rank} in it, or all ranks would write one file")
    return value


def _listen(value: object) -> object:
    """As "host:port"; a port alone is served to this host only."""
    text = f"127.0.0.1:{value}" if type(value) is int or (isinstance(value, str) and value.isdecimal()) else value
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if value is not None and (match is None or int(match["port"]) > 65535):
        raise ValueError('expected a port (9400: for this host alone) or "host:port" ("0.0.0.0:9400")')
    return text


def _nproc(value: object) -> object:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError("expected auto or a whole number of at least 1")


def _timeout(value: object) -> object:
    if value in ("auto", "never") or (type(value) in (int, float) and 0 < value < inf):  # type: ignore[operator]
        return value
    raise ValueError("expected auto, never, or seconds greater than 0")


def _pattern(value: str) -> str:
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


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="constants")


class TrainConfig(_Section):
    epochs: Positive = 5
    steps: Positive | None = None
    batch_size: Positive = 64
    lr: PositiveAmount = 0.001
    seed: Seed = 0
    deterministic: StrictBool = True


class DataConfig(_Section):
    num_workers: Count = 0
    drop_last: StrictBool = False


class KeepBestConfig(_Section):
    metric: Annotated[StrictStr, Field(min_length=1)]
    mode: Literal["min", "max"] = "max"
    count: Positive = 1


class CheckpointConfig(_Section):
    every: Annotated[Every | Literal["auto"], BeforeValidator(_save_every)] = Every(steps=50)
    memory_every: Annotated[Literal["auto", "never"] | int, BeforeValidator(_memory_every)] = "auto"
    when_busy: Literal["defer", "wait", "skip", "queue"] = "defer"
    arenas: Annotated[int, Field(strict=True, ge=1, le=3)] = 2
    overlap: StrictBool = False
    overhead: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.01
    keep_last: Positive = 3
    keep_every: Every | None = None
    keep_best: KeepBestConfig | None = None
    pin: tuple[Count, ...] = ()
    save_deadline_s: PositiveAmount = 300.0
    max_failed_saves: Positive = 5


class StorageConfig(_Section):
    url: Annotated[StrictStr, AfterValidator(_url)]
    single_writer: StrictBool = False


class RuleConfig(_Section):
    match: Annotated[StrictStr, Field(min_length=1), AfterValidator(_pattern)]
    then: Literal["stop", "retry", "exclude"]


class RestartConfig(_Section):
    max_without_progress: Count = 5
    backoff_s: Amount = 1.0
    backoff_max_s: Amount = 60.0
    max_failures: Positive = 100
    window_s: PositiveAmount = 3600.0
    rules: tuple[RuleConfig, ...] = ()

    @field_validator("backoff_max_s")
    @classmethod
    def _not_below_the_first(cls, value: float, info: ValidationInfo) -> float:
        first = info.data.get("backoff_s", 0.0)
        if value < first:
            raise ValueError(f"expected backoff_s ({first:g}) or more")
        return value


class HangConfig(_Section):
    timeout: Annotated[Literal["auto", "never"] | float, BeforeValidator(_timeout)] = "auto"
    floor_s: PositiveAmount = 5.0
    start_s: PositiveAmount = 1800.0
    restore_s: PositiveAmount = 1800.0
    evaluate_s: PositiveAmount = 3600.0
    epoch_s: PositiveAmount = 300.0


class PreemptionConfig(_Section):
    deadline_s: PositiveAmount = 60.0
    watch: Literal["aws", "gcp", "azure"] | None = None
    metadata_url: Annotated[StrictStr, AfterValidator(_http)] | None = None


class LaunchConfig(_Section):
    nproc_per_node: Annotated[Literal["auto"] | int, BeforeValidator(_nproc)] = "auto"


class LogConfig(_Section):
    every: Positive = 1
    trace: Annotated[StrictStr, AfterValidator(_trace)] | None = None


class MetricsConfig(_Section):
    prometheus: Annotated[StrictStr | None, BeforeValidator(_listen)] = None
    tensorboard: Annotated[StrictStr, AfterValidator(_url)] | None = None


class Config(_Section):
    """A whole run. Frozen; as JSON it goes to the workers (`model_dump_json`, `model_validate_json`)."""

    name: Annotated[StrictStr, AfterValidator(_name)]
    task: Annotated[StrictStr, AfterValidator(_task)]
    task_args: dict[str, JsonValue] = {}
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    storage: StorageConfig
    restart: RestartConfig = RestartConfig()
    hang: HangConfig = HangConfig()
    preemption: PreemptionConfig = PreemptionConfig()
    launch: LaunchConfig = LaunchConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()

    @field_validator(*_SECTIONS, mode="before")
    @classmethod
    def _empty_section(cls, value: object) -> object:
        """A section whose lines are all commented out is an empty one, not an error."""
        return {} if value is None else value

    @property
    def identity(self) -> dict[str, str | int]:
        """What makes a run this run: its storage refuses a run with another identity."""
        return {"name": self.name, "task": self.task, "seed": self.train.seed}
