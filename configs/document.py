"""A configuration as it was given, file and overrides together, and where each key of it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import errors
from .reader import MAX_DEPTH, KeyPath, Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

WORDS: Final = {"init_from": "source", "parallel": "mode"}
"""Sections that may be given as a word, and the option that it stands for."""


@dataclass(frozen=True, slots=True)
class Document:
    """`values` as nested dicts and lists; `places` says where each key was given; `origin` names the whole."""

    origin: str
    values: Mapping[str, Any]
    places: Mapping[KeyPath, str]

    @classmethod
    def of_file(cls, origin: str, text: str) -> Document:
        """Raises ConfigError that names the line (and column) of what cannot be read."""
        reader = Reader(origin, has_lines=True)
        values = reader.read(text, ())
        if not isinstance(values, dict | None):
            raise errors.not_a_mapping(origin, values)
        return cls(origin, values or {}, reader.places)

    def override(self, text: str) -> Document:
        """`a.b=VALUE` assigns, whatever was there; VALUE is YAML. Raises ConfigError that quotes the override."""
        key, equals, value_text = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not key.strip() or not equals or len(path) > MAX_DEPTH:
            raise errors.bad_override(text)
        origin = f"override {errors.shown(text)}"
        reader = Reader(origin, has_lines=False)
        values, created = _assign(_spelled_out(self.values, path), path, reader.read(value_text, path))
        kept = {other: place for other, place in self.places.items() if other[: len(created)] != created}
        return Document(self.origin, values, kept | reader.places | {created: origin, path: origin})

    def where(self, path: KeyPath) -> str:
        """Where `path` was given, or else the nearest section around it, or at least the document."""
        prefixes = (path[:length] for length in range(len(path), 0, -1))
        return next((self.places[prefix] for prefix in prefixes if prefix in self.places), self.origin)


def _spelled_out(values: Mapping[str, Any], path: KeyPath) -> Mapping[str, Any]:
    """With the section that `path` leads into as a section, where it was given as a word (`parallel: hsdp`)."""
    word = values.get(path[0])
    if len(path) > 1 and path[0] in WORDS and isinstance(word, str):
        return {**values, path[0]: {WORDS[path[0]]: word}}
    return values


def _assign(values: Mapping[str, Any], path: KeyPath, value: Any) -> tuple[dict[str, Any], KeyPath]:
    """The new values, and the outermost key that is new or has lost what it held."""
    head, rest = path[0], path[1:]
    if not rest:
        return {**values, head: value}, path
    held = values.get(head)
    inner, created = _assign(held if isinstance(held, dict) else {}, rest, value)
    return {**values, head: inner}, (head, *created) if isinstance(held, dict) else (head,)
