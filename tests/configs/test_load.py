"""Loading: from a file or a preset and overrides to one frozen configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic
import pytest

from relight.configs.errors import ConfigError
from relight.configs.every import Every
from relight.configs.load import load, presets
from relight.configs.schema import Config, KeepBestConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MINIMAL = "name: run\ntask: my_job:Task\nstorage: {url: s3://bucket/run}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's directory: not the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def minimal(elsewhere: Path) -> str:
    (elsewhere / "my.yaml").write_text(_MINIMAL)
    return "my.yaml"


def test_name_task_and_storage_are_all_that_must_be_given(minimal: str) -> None:
    config = load(minimal)
    assert (config.name, config.task, config.storage.url) == ("run", "my_job:Task", "s3://bucket/run")
    assert config.checkpoint.every == Every(steps=50)
    assert config.launch.nproc_per_node == "auto"


@pytest.mark.parametrize("source", ["digits", "digits.yaml", "configs/digits.yaml"])
def test_a_preset_is_found_by_its_name_from_any_directory(source: str) -> None:
    assert load(source).name == "digits"


def test_a_file_of_the_users_comes_before_a_preset_of_the_same_name(elsewhere: Path) -> None:
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "digits.yaml").write_text(_MINIMAL)
    assert load("configs/digits.yaml").name == "run"


def test_a_directory_does_not_hide_a_preset(elsewhere: Path) -> None:
    (elsewhere / "digits").mkdir()
    assert load("digits").name == "digits"


def test_the_home_directory_may_be_written_short(
    elsewhere: Path, minimal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home-of-the-user")
    assert load(minimal, ["storage.url=~/runs/x"]).storage.url == "/home-of-the-user/runs/x"
    assert load(minimal, ["storage.url=~nobody-at-all/x"]).storage.url == f"{elsewhere}/~nobody-at-all/x"


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.lr=0.1", lambda config: config.train.lr == 0.1),
        ("train.lr=1e-3", lambda config: config.train.lr == 0.001),
        ("train.lr=1", lambda config: config.train.lr == 1.0),
        ("train.lr=2.5E+2", lambda config: config.train.lr == 250.0),
        (" train.epochs =7", lambda config: config.train.epochs == 7),
        ("train.steps=10", lambda config: config.train.steps == 10),
        ("train.deterministic=false", lambda config: config.train.deterministic is False),
        ("train={epochs: 3}", lambda config: (config.train.epochs, config.train.lr) == (3, 0.001)),
        ("checkpoint.every=5m", lambda config: config.checkpoint.every == Every(seconds=300)),
        ("checkpoint.keep_every=2h", lambda config: config.checkpoint.keep_every == Every(seconds=7200)),
        ("checkpoint.pin=[7, 9]", lambda config: config.checkpoint.pin == (7, 9)),
        (
            "checkpoint.keep_best={metric: loss, mode: min}",
            lambda config: config.checkpoint.keep_best == KeepBestConfig(metric="loss", mode="min", count=1),
        ),
        ("checkpoint.every=7", lambda config: config.checkpoint.every == Every(steps=7)),
        ("launch.nproc_per_node=3", lambda config: config.launch.nproc_per_node == 3),
        ("task=a.b:C", lambda config: config.task == "a.b:C"),
        ("task_args.depth=18", lambda config: config.task_args == {"depth": 18}),
        (
            "task_args={a: [1, x=y, null], on: false}",
            lambda config: config.task_args == {"a": [1, "x=y", None], "on": False},
        ),
        ("task_args.since=2026-01-01", lambda config: config.task_args == {"since": "2026-01-01"}),
        ("task_args=", lambda config: config.task_args == {}),
        ("log.trace='/tmp/{rank}.jsonl'", lambda config: config.log.trace == "/tmp/{rank}.jsonl"),
    ],
)
def test_an_override_assigns(minimal: str, override: str, read: Callable[[Config], bool]) -> None:
    assert read(load(minimal, [override]))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, None) for text in ("", "~", "null", "Null", "NULL")),
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *((text, int(text)) for text in ("0", "-7", "+7", "10", "1_000")),
        *((text, float(text)) for text in ("1.", ".5", "-0.5", "1e3", "1E-3", "+2.5e+2", "1.0e0")),
        *((text, float(text.replace(".i", "i").replace(".I", "I"))) for text in (".inf", "-.inf", "+.Inf", ".INF")),
        *((text, text) for text in ("no", "yes", "on", "Off", "y", "n", "1:30", "1:30.5", "2026-01-01", "010", "0x1F")),
        *((text, text) for text in ("1e", "e3", ".", "+", "1.2.3", "inf", "nan", "nulls", "truest", "1 2", "=")),
        *((f"'{text}'", text) for text in ("1", "true", "null", "1.5", "")),
    ],
    ids=repr,
)
def test_a_value_is_read_as_yaml_1_2_means_it(minimal: str, text: str, value: object) -> None:
    read = load(minimal, [f"task_args.x={text}"]).task_args["x"]
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("key", "refused", "accepted"),
    [
        ("train.epochs", 0, 1),
        ("train.steps", 0, 1),
        ("train.batch_size", 0, 1),
        ("train.lr", 0, 1e-9),
        ("train.seed", -1, 0),
        ("train.seed", 2**32, 2**32 - 1),
        ("data.num_workers", -1, 0),
        ("checkpoint.every", 0, 1),
        ("checkpoint.keep_last", 0, 1),
        ("checkpoint.save_deadline_s", 0, 0.1),
        ("checkpoint.max_failed_saves", 0, 1),
        ("restart.max_without_progress", -1, 0),
        ("restart.backoff_s", -0.1, 0),
        ("restart.backoff_s", 60.1, 60),
        ("restart.backoff_max_s", 0.9, 1),
        ("preemption.deadline_s", 0, 0.1),
        ("launch.nproc_per_node", 0, 1),
        ("log.every", 0, 1),
    ],
)
def test_a_limit_is_exactly_where_it_is_said_to_be(minimal: str, key: str, refused: float, accepted: float) -> None:
    load(minimal, [f"{key}={accepted}"])
    with pytest.raises(ConfigError):
        load(minimal, [f"{key}={refused}"])


def test_the_last_override_wins(minimal: str) -> None:
    assert load(minimal, ["train.lr=1", "train.lr=2"]).train.lr == 2


def test_a_section_without_keys_has_its_defaults(elsewhere: Path) -> None:
    (elsewhere / "my.yaml").write_text(f"{_MINIMAL}train:\n#  epochs: 3\ntask_args:\n")
    config = load("my.yaml")
    assert (config.train.epochs, config.task_args) == (5, {})


def test_local_paths_are_taken_from_the_directory_where_the_command_was_typed(elsewhere: Path, minimal: str) -> None:
    config = load(minimal, ["storage.url=runs/x", "log.trace='trace-{rank}.jsonl'"])
    assert config.storage.url == str(elsewhere / "runs" / "x")
    assert config.log.trace == str(elsewhere / "trace-{rank}.jsonl")


@pytest.mark.parametrize(
    "url", ["/data/run", "s3://bucket/run", "memory://run", "s3://key@bucket/run", "http://host:9000/b@c"]
)
def test_absolute_paths_and_urls_stay_as_they_are(minimal: str, url: str) -> None:
    assert load(minimal, [f"storage.url={url}"]).storage.url == url


def test_a_run_is_identified_by_name_task_and_seed(minimal: str) -> None:
    assert load(minimal, ["train.seed=3"]).identity == {"name": "run", "task": "my_job:Task", "seed": 3}


def test_a_configuration_is_frozen(minimal: str) -> None:
    config = load(minimal)
    with pytest.raises(pydantic.ValidationError):
        config.train.lr = 1.0  # type: ignore[misc]


def test_workers_get_the_same_configuration_as_json(minimal: str) -> None:
    saving = "checkpoint={every: 90s, keep_best: {metric: x}, keep_every: 9, pin: [1]}"
    config = load(minimal, [saving, "task_args={a: {b: [1, null]}, c: .inf}", "train.steps=9"])
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_whatever_loads_fits_into_the_json_for_the_workers(minimal: str) -> None:
    deepest = load(minimal, [f"task_args{'.a' * 63}={'[' * 64}{']' * 64}"])
    assert Config.model_validate_json(deepest.model_dump_json()) == deepest


def test_every_preset_loads() -> None:
    assert presets() == ["digits", "gpt", "reference"]
    for name in presets():
        load(name)
