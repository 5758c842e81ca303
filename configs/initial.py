"""The section `init_from`: the weights that a run begins with, and how their names are chosen and changed."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictStr, model_validator

from . import errors
from .values import Section

WEIGHTS_NAME: Final = re.compile(r"(?:(?P<enum>\w+Weights)\.|(?P<model>[a-z]\w*):)?(?P<name>[A-Z][A-Z0-9_]+)")
"""How torchvision's weights are named: `ResNet18_Weights.IMAGENET1K_V1`, `resnet18:IMAGENET1K_V1`, `IMAGENET1K_V1`."""


def pattern(text: str) -> Callable[[str], bool]:
    """Whether a name is meant by `text`; raises ValueError when it is no pattern.

    What begins with ^ is a regular expression. Anything else is a name in which * and ? stand for any characters, and
    means everything below it, too: `fc` means `fc.weight` and `fc.bias`.
    """
    if text.startswith("^"):
        expression = _expression(text)
        return lambda name: expression.match(name) is not None
    named = re.compile("|".join(map(fnmatch.translate, (text, f"{text}[./]*"))))
    return lambda name: named.match(name) is not None


def rewriting(old: str, new: str) -> Callable[[str], str]:
    r"""What a pair of `rename` makes of a name; raises ValueError when it is no such pair.

    What begins with ^ is a regular expression, of which \1 in `new` is the first group. Anything else is a prefix.
    """
    if not old.startswith("^"):
        return lambda name: new + name.removeprefix(old) if name.startswith(old) else name
    expression = _expression(old)
    try:
        expression.sub(new, "")
    except (re.error, IndexError) as error:
        raise ValueError(f"expected a replacement for {old}, and it is none: {error}") from None
    return lambda name: expression.sub(new, name, count=1)


def _expression(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a regular expression, as it begins with ^, and it is none: {error}") from None


def _source(value: str) -> str:
    if not value.strip():
        raise ValueError("expected a file, a URL, or the name of torchvision's weights")
    if errors.PASSWORD.search(value):
        raise ValueError("expected a URL without a password, which would end up in logs; leave it to the environment")
    return value


def _patterns(value: object) -> object:
    """A single one needs no brackets, and the number of a layer no quotes."""
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(str(each) if type(each) is int else each for each in several)


def _pattern(value: str) -> str:
    pattern(value)
    return value


def _pairs(value: dict[str, str]) -> dict[str, str]:
    for old, new in value.items():
        rewriting(old, new)
    return value


Patterns = Annotated[
    tuple[Annotated[StrictStr, Field(min_length=1), AfterValidator(_pattern)], ...], BeforeValidator(_patterns)
]


class InitFromConfig(Section):
    source: Annotated[StrictStr, AfterValidator(_source)] | None = None
    include: Patterns = ()
    exclude: Patterns = ()
    rename: Annotated[dict[StrictStr, StrictStr], AfterValidator(_pairs)] = Field(default_factory=dict)
    strict: StrictBool = True

    @model_validator(mode="before")
    @classmethod
    def _source_alone(cls, value: object) -> object:
        """`init_from: weights.pt`"""
        return {"source": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.source is None and self.model_fields_set - {"source"} and self != type(self)():
            raise ValueError("expected a source beside it, for example init_from: {source: weights.pt, exclude: [fc]}")
        return self


def is_weights_name(source: str) -> bool:
    """Whether it names torchvision's weights; a file or folder that is called so is written with a ./ before it."""
    return WEIGHTS_NAME.fullmatch(source) is not None
