"""From pydantic's account of what is wrong to ours: one line per problem, with the key, the place and the way out."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final, get_args

from pydantic import BaseModel

from . import errors
from .schema import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from .document import Document
    from .reader import KeyPath

_EXPECTED: Final = {
    "bool_type": "expected true or false",
    "dict_type": "expected a section of `key: value`",
    "finite_number": "expected a finite number",
    "float_type": "expected a number",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected {ge:g} or more",
    "int_type": "expected a whole number",
    "less_than": "expected less than {lt}",
    "literal_error": "expected {expected}",
    "model_type": "expected a section of `key: value`",
    "string_too_short": "expected text",
    "string_type": "expected text",
    "tuple_type": "expected a list, for example [1000, 2000]",
    "value_error": "{error}",
}


def explain(error: ValidationError, document: Document) -> errors.ConfigError:
    problems = [_problem(details, document) for details in error.errors(include_url=False)]
    return errors.ConfigError("\n".join(problems))


def _problem(details: ErrorDetails, document: Document) -> str:
    path = tuple(str(part) for part in details["loc"])
    key = ".".join(path)
    match details["type"]:
        case "missing":
            return errors.missing(key, document.where(path[:-1]))
        case "extra_forbidden":
            section = sections()[_names(path[:-1])]
            return errors.unknown(key, document.where(path), section.model_fields, _nearest(path, section))
        case kind:
            expected = _EXPECTED[kind].format(**details.get("ctx", {})) if kind in _EXPECTED else details["msg"]
            return errors.wrong(key, document.where(path), details["input"], expected)


def _names(path: KeyPath) -> KeyPath:
    """Without the numbers of a list's entries."""
    return tuple(part for part in path if not part.isdecimal())


def sections() -> dict[KeyPath, type[BaseModel]]:
    """The top level and every section of the schema, by path."""
    return dict(_sections((), Config))


def _sections(path: KeyPath, model: type[BaseModel]) -> Iterator[tuple[KeyPath, type[BaseModel]]]:
    yield path, model
    for name, option in model.model_fields.items():
        # A section may be left out as a whole: `Section | None`.
        for inner in (option.annotation, *get_args(option.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _sections((*path, name), inner)


def _nearest(path: KeyPath, section: type[BaseModel]) -> str | None:
    """A valid key that was probably meant: a similar one of the same section, or the same one of another section."""
    similar = difflib.get_close_matches(path[-1], list(section.model_fields), n=1)
    if similar:
        return ".".join((*path[:-1], similar[0]))
    elsewhere = [".".join((*outer, path[-1])) for outer, other in sections().items() if path[-1] in other.model_fields]
    return " or ".join(elsewhere) or None
