"""What can be configured, its defaults and its limits. Each option's meaning and unit stand in `reference.yaml`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    StrictBool,
    StrictStr,
    ValidationInfo,
    field_validator,
)

from . import values
from .every import Every
from .initial import InitFromConfig
from .parallel import ParallelConfig
from .values import Amount, Count, Positive, PositiveAmount, Section, Seed

_SECTIONS: Final = (
    "task_args",
    "init_from",
    "train",
    "parallel",
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


class TrainConfig(Section):
    epochs: Positive = 5
    steps: Positive | None = None
    batch_size: Positive = 64
    max_per_rank: Positive | None = None
    lr: PositiveAmount = 0.001
    seed: Seed = 0
    deterministic: StrictBool = True
    precision: Literal["fp32", "bf16"] = "fp32"


class DataConfig(Section):
    num_workers: Count = 0
    drop_last: StrictBool = False


class KeepBestConfig(Section):
    metric: Annotated[StrictStr, Field(min_length=1)]
    mode: Literal["min", "max"] = "max"
    count: Positive = 1


class CheckpointConfig(Section):
    every: Annotated[Every | Literal["auto"], BeforeValidator(values.save_every)] = Every(steps=50)
    memory_every: Annotated[Literal["auto", "never"] | int, BeforeValidator(values.memory_every)] = "auto"
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


class StorageConfig(Section):
    url: Annotated[StrictStr, AfterValidator(values.url)]
    single_writer: StrictBool = False


class RuleConfig(Section):
    match: Annotated[StrictStr, Field(min_length=1), AfterValidator(values.expression)]
    then: Literal["stop", "retry", "exclude"]


class RestartConfig(Section):
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


class HangConfig(Section):
    timeout: Annotated[Literal["auto", "never"] | float, BeforeValidator(values.timeout)] = "auto"
    floor_s: PositiveAmount = 5.0
    start_s: PositiveAmount = 1800.0
    restore_s: PositiveAmount = 1800.0
    evaluate_s: PositiveAmount = 3600.0
    epoch_s: PositiveAmount = 300.0


class PreemptionConfig(Section):
    deadline_s: PositiveAmount = 60.0
    watch: Literal["aws", "gcp", "azure"] | None = None
    metadata_url: Annotated[StrictStr, AfterValidator(values.http)] | None = None


class LaunchConfig(Section):
    nproc_per_node: Annotated[Literal["auto"] | int, BeforeValidator(values.nproc)] = "auto"


class LogConfig(Section):
    every: Positive = 1
    trace: Annotated[StrictStr, AfterValidator(values.trace_path)] | None = None


class MetricsConfig(Section):
    prometheus: Annotated[StrictStr | None, BeforeValidator(values.listening)] = None
    tensorboard: Annotated[StrictStr, AfterValidator(values.url)] | None = None
    loggers: tuple[Annotated[str | dict[str, dict[str, JsonValue]], BeforeValidator(values.logger)], ...] = ()


class Config(Section):
    """A whole run. Frozen; as JSON it goes to the workers (`model_dump_json`, `model_validate_json`)."""

    name: Annotated[StrictStr, AfterValidator(values.run_name)]
    task: Annotated[StrictStr, AfterValidator(values.task)]
    task_args: dict[str, JsonValue] = Field(default_factory=dict)
    init_from: InitFromConfig = InitFromConfig()
    train: TrainConfig = TrainConfig()
    parallel: ParallelConfig = ParallelConfig()
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
