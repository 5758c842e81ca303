"""HTML and SVG as text, in which everything foreign is escaped. Pure."""

from __future__ import annotations

from html import escape
from typing import Final

_EMPTY: Final = frozenset({"br", "input", "line", "meta", "path", "rect"})


class Markup(str):
    """Text that is markup already; all other text is escaped where it is put into an element."""

    __slots__ = ()


def element(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """`class_` is spelt as Python needs it, `data_points` means `data-points`. None is left out, True is bare."""
    pairs = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY and not children:
        return Markup(f"<{name}{pairs}/>" if name in {"line", "path", "rect"} else f"<{name}{pairs}>")
    inside = "".join(text(child) for child in children if child is not None)
    return Markup(f"<{name}{pairs}>{inside}</{name}>")


def text(value: str) -> str:
    return value if isinstance(value, Markup) else escape(value)


def joined(*parts: str | None) -> Markup:
    return Markup("".join(text(part) for part in parts if part is not None))


def _attribute(key: str, value: str | float | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def percent(place: float) -> str:
    return f"{100 * place:.2f}%"
