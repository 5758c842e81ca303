"""YAML text as plain values, and on the way the place where each key was given.

Values are read as YAML 1.2 means them and PyYAML alone does not: `1e-3` is a number; `no`, `1:30` and dates are text.
Stricter than YAML in three things: duplicate keys, tags and aliases are refused.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

import yaml

from . import errors

KeyPath: TypeAlias = tuple[str, ...]

# Deep enough for anybody, and well below what JSON readers and Python's stack can take.
MAX_DEPTH: Final = 64

_PLAIN_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "map", "null", "seq", "str")
)


class Reader:
    """Turns one YAML text into plain values and notes on the way where each key was given."""

    def __init__(self, origin: str, *, has_lines: bool) -> None:
        self.places: dict[KeyPath, str] = {}
        self._origin = origin
        self._has_lines = has_lines

    def read(self, text: str, path: KeyPath) -> Any:
        """The text's values, to stand at `path`; raises ConfigError."""
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            return None if node is None else self._value(loader, node, path)
        except yaml.MarkedYAMLError as error:
            raise self._refused(error.problem or "unreadable", error.problem_mark) from None
        except yaml.reader.ReaderError as error:
            raise self._refused(f"character #x{error.character:04x} is not allowed") from None

    def _refused(self, problem: str, mark: yaml.Mark | None = None) -> errors.ConfigError:
        position = (mark.line + 1, mark.column + 1) if mark and self._has_lines else None
        return errors.bad_yaml(self._origin, problem, position)

    def _value(self, loader: _Loader, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, (*path, str(number))) for number, item in enumerate(node.value)]
        return _scalar(loader, node)

    def _mapping(self, loader: _Loader, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key_node.start_mark)
            # The text as it stands: `1:` and `true:` are names here, not a number and a boolean.
            key = key_node.value
            place = f"{self._origin}, line {key_node.start_mark.line + 1}" if self._has_lines else self._origin
            inner = (*path, key)
            if key in values:
                raise errors.duplicate(".".join(inner), self.places[inner], place)
            self.places[inner] = place
            values[key] = self._value(loader, value_node, inner)
        return values


class _Loader(yaml.SafeLoader):
    """PyYAML's safe one, with the kinds of values that JSON has."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise self._refused("aliases are not supported")
        if self._depth == MAX_DEPTH:
            raise self._refused("nested too deeply")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and node.tag not in _PLAIN_TAGS:
            short = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise yaml.MarkedYAMLError(problem=f"the tag {short} is not supported", problem_mark=node.start_mark)
        return node

    def _refused(self, problem: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=yaml.SafeLoader.peek_event(self).start_mark)


_INT: Final = r"[-+]?(0|[1-9][0-9_]*)"
_FLOAT: Final = r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"

_Loader.yaml_implicit_resolvers = {}  # what YAML 1.1 takes for a value
for _kind, _form, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_form})\Z"), _first)


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    try:
        return loader.construct_object(node)
    except (ValueError, KeyError):  # `!!int x`, `!!bool x`, an integer of thousands of digits
        raise yaml.MarkedYAMLError(
            problem=f"{errors.shown(node.value)} is not a value", problem_mark=node.start_mark
        ) from None
