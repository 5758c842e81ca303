"""The reference preset is the schema, written for a reader; the example is a small part of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

import relight.configs
from relight.configs.explain import sections
from relight.configs.load import load
from relight.configs.schema import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIGS: Final = Path(relight.configs.__file__).parent
_EXAMPLES: Final = ("digits", "gpt")
_REFERENCE: Final = (_CONFIGS / "reference.yaml").read_text(encoding="utf-8")


def _keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _schema_keys() -> list[str]:
    """Depth first, as the reference is written."""
    options = Config.model_fields

    def below(name: str) -> list[str]:
        section = sections().get((name,))
        return [f"{name}.{option}" for option in section.model_fields] if section else []

    return [key for name in options for key in (name, *below(name))]


def test_the_reference_lists_every_option_in_the_order_of_the_schema() -> None:
    assert list(_keys(yaml.safe_load(_REFERENCE))) == _schema_keys()


def test_the_reference_shows_the_defaults() -> None:
    required = {"name", "task", "storage"}
    reference = load("reference").model_dump(exclude=required)
    minimal = Config.model_validate({"name": "x", "task": "a:B", "storage": {"url": "/x"}}).model_dump(exclude=required)
    assert reference == minimal


def test_the_reference_explains_every_option_in_a_comment_above_it() -> None:
    lines = _REFERENCE.splitlines()
    options = [number for number, line in enumerate(lines) if re.match(r"\s*\w+: ?\S", line)]
    assert len(options) == len(_schema_keys()) - len([path for path in sections() if len(path) == 1])
    for number in options:
        assert lines[number - 1].strip().startswith("#"), lines[number]


@pytest.mark.parametrize("example", _EXAMPLES)
def test_an_example_differs_from_the_defaults_in_nothing_that_goes_unsaid(example: str) -> None:
    values = yaml.safe_load((_CONFIGS / f"{example}.yaml").read_text(encoding="utf-8"))
    said = set(_keys({**values, "task_args": None}))
    assert said <= set(_schema_keys())
    assert {"name", "task", "storage.url"} <= said
