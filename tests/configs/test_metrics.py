"""The section `metrics`: where the page is served, where TensorBoard's files go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relight.configs.errors import ConfigError
from relight.configs.load import load
from relight.configs.schema import Config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("null", None),
        ("9400", "127.0.0.1:9400"),
        ('"9400"', "127.0.0.1:9400"),
        ("0", "127.0.0.1:0"),
        ("0.0.0.0:9400", "0.0.0.0:9400"),
        ("node-7.cluster:9400", "node-7.cluster:9400"),
        ('"[::1]:9400"', "[::1]:9400"),
    ],
)
def test_a_port_alone_is_for_this_host_only(given: str, meant: str | None) -> None:
    config = load("digits", [f"metrics.prometheus={given}"])
    assert config.metrics.prometheus == meant
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("given", ["65536", "-1", "true", "host", "host:", ":9400", "http://host:9400", "a b:1", "[1]"])
def test_what_is_no_address_is_refused_with_what_would_be(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("digits", [f"metrics.prometheus={given}"])
    assert 'expected a port (9400: for this host alone) or "host:port" ("0.0.0.0:9400")' in str(caught.value)


@pytest.mark.parametrize(("given", "meant"), [("board", "{here}/board"), ("s3://bucket/board", "s3://bucket/board")])
def test_the_folder_for_tensorboard_is_taken_from_the_current_one(tmp_path: Path, given: str, meant: str) -> None:
    config = load("digits", [f"metrics.tensorboard={given}"])
    assert config.metrics.tensorboard == meant.format(here=tmp_path)


@pytest.mark.parametrize("given", ['""', "7", "s3://user:secret@host/board"])
def test_a_folder_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError):
        load("digits", [f"metrics.tensorboard={given}"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("[]", ()),
        ("[wandb, mlflow]", ("wandb", "mlflow")),
        ("[my_package.logging:Mine]", ("my_package.logging:Mine",)),
        ("[{wandb: {project: mine, tags: [a]}}]", ({"wandb": {"project": "mine", "tags": ["a"]}},)),
    ],
)
def test_loggers_are_named_alone_or_with_options(given: str, meant: tuple[Any, ...]) -> None:
    config = load("digits", [f"metrics.loggers={given}"])
    assert config.metrics.loggers == meant
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    "given", ["[wandbb]", "[7]", "[my_package]", "[{wandb: 7}]", "[{wandb: {}, mlflow: {}}]", "[[a]]"]
)
def test_what_is_no_logger_is_refused_with_what_would_be(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("digits", [f"metrics.loggers={given}"])
    assert "expected wandb, mlflow, or module:Class" in str(caught.value) or "options of wandb" in str(caught.value)
