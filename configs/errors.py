"""What is said when a configuration cannot be used: which key, where it stands, what is expected, the way out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# `s3://key:secret@bucket`; a secret may hold slashes, and `host:9000/` is a port.
PASSWORD: Final = re.compile(r"(://[^/@:]*:)(?!\d+/)(.*)@")

_SHOWN_CHARACTERS: Final = 100
_ENTRY: Final = re.compile(r"\.\d+")
"""The number of a list's entry in a key."""

_MISSING: Final = {
    "name": "Give the run a name, for example `name: digits`: "
    "with task and train.seed it identifies the run in its storage.",
    "task": "A task is a class that supplies model, data, optimizer and loss. Name it as module:Class, "
    "for example `task: relight.workers.tasks.digits:Digits`.",
    "checkpoint.keep_best.metric": "Name the metric to compare by, "
    "for example `keep_best: {metric: accuracy, mode: max, count: 1}`.",
    "restart.rules.match": "Say what to look for, for example `rules: [{match: uncorrectable ECC, then: exclude}]`.",
    "restart.rules.then": "Say what to do: stop, retry or exclude.",
    "storage": "Say where the run lives, for example `storage: {url: runs/digits}`.",
    "storage.url": "Say where the run lives: a directory or a URL, for example `url: runs/digits`.",
}


class ConfigError(Exception):
    """The configuration cannot be used. The text is for a person and is complete; nothing was read or written yet."""


def missing(key: str, where: str) -> str:
    return f"{key} is missing ({where}). {_MISSING[_ENTRY.sub('', key)]}"


def unknown(key: str, where: str, valid: Iterable[str], nearest: str | None) -> str:
    section = key.rpartition(".")[0] or "the top level"
    hint = f"Did you mean {nearest}? " if nearest else ""
    return f"unknown key {key} ({where}). {hint}Valid in {section}: {', '.join(sorted(valid))}."


def wrong(key: str, where: str, value: object, expected: str) -> str:
    return f"{key} ({where}): {expected}; got {shown(value)}."


def shown(value: object) -> str:
    """A value as it is quoted in a message: short, whatever was given, and without a password."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", False: "false", True: "true"}[value]
    text = PASSWORD.sub(r"\1***@", repr(value))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def no_such_source(source: str, presets: Sequence[str], nearest: str | None) -> ConfigError:
    if source.endswith(".py"):
        return ConfigError(f"{source} is a script, not a configuration. To run it: relight run -- {source}")
    hint = f" Did you mean {nearest}?" if nearest else ""
    return ConfigError(f"no configuration {source}: there is no such file. Presets: {', '.join(presets)}.{hint}")


def unreadable(source: str, reason: str) -> ConfigError:
    return ConfigError(f"{source} cannot be read: {reason}.")


def bad_yaml(origin: str, problem: str, position: tuple[int, int] | None) -> ConfigError:
    where = f"{origin}, line {position[0]}, column {position[1]}" if position else origin
    return ConfigError(f"{where}: not valid YAML: {problem}.")


def not_a_mapping(where: str, value: object) -> ConfigError:
    return ConfigError(f"{where}: expected `key: value` lines; got {shown(value)}.")


def duplicate(key: str, first: str, second: str) -> ConfigError:
    return ConfigError(f"{key} is given twice: {first} and {second}. Keep one.")


def bad_override(text: str) -> ConfigError:
    return ConfigError(f"override {shown(text)}: expected KEY=VALUE, for example train.lr=0.1.")
