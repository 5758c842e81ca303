"""Where the time went: a bar of all of it, its parts by name, and what was lost to which cause. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..commands.status_view import duration
from .markup import Markup, element, joined, percent

_LEAST_S: Final = 0.005
_ROOM_FOR_A_LABEL: Final = 0.3
MEANS: Final = {
    "productive": "steps that stand, and evaluation",
    "staging_stall": "training stood still for a save",
    "restore": "the state was read back",
    "restart": "from a failure to the first new step",
    "lost_work": "steps that had to be done again",
    "waiting": "for other hosts, or after many failures",
    "startup": "before the first step and after the last",
    "away": "no launcher lived",
}


def goodput(facts: Mapping[str, Any]) -> Markup:
    """`facts` as `relight status` says; empty: nobody kept the books."""
    if not facts:
        return element(
            "p",
            "No launcher has kept the books of this run: it was started without relight run, or its journal is in the "
            "folder that --log-dir names.",
            class_="none",
        )
    seconds: Mapping[str, float] = facts["seconds"]
    wall_s = sum(seconds.values()) or 1.0
    return joined(
        element(
            "div",
            *(_part(name, spent_s, wall_s) for name, spent_s in seconds.items() if spent_s > 0),
            class_="bar",
            role="img",
            aria_label="time by cause; the table below has the numbers",
        ),
        element("table", element("tbody", *(_line(name, s, wall_s) for name, s in seconds.items())), _sum(wall_s)),
        *_by_cause(facts.get("lost_by_cause_s") or {}),
    )


def _part(name: str, spent_s: float, wall_s: float) -> Markup:
    share = spent_s / wall_s
    label = element("span", f"{_plain(name)} {share:.0%}") if share > _ROOM_FOR_A_LABEL else None
    said = f"{_plain(name)}: {duration(spent_s)}, {share:.1%}"
    return element(
        "i", label, class_=f"h-{name}", style=f"width:{percent(share)}", title=said, data_seconds=f"{spent_s:.3f}"
    )


def _line(name: str, spent_s: float, wall_s: float) -> Markup:
    return element(
        "tr",
        element("th", element("i", class_=f"swatch h-{name}"), _plain(name), scope="row"),
        element("td", MEANS.get(name, ""), class_="means"),
        element("td", duration(spent_s), class_="number"),
        element("td", f"{spent_s / wall_s:.1%}", class_="number"),
    )


def _sum(wall_s: float) -> Markup:
    return element(
        "tfoot",
        element(
            "tr",
            element("th", "wall clock", scope="row"),
            element("td", "all of it", class_="means"),
            element("td", duration(wall_s), class_="number"),
            element("td", "100.0%", class_="number"),
        ),
    )


def _by_cause(lost: Mapping[str, float]) -> list[Markup]:
    lost = {cause: spent_s for cause, spent_s in lost.items() if spent_s >= _LEAST_S}
    if not lost:
        return []
    most_s = max(lost.values())
    lines = [
        element(
            "tr",
            element("th", cause, scope="row"),
            element("td", element("i", class_="cost", style=f"width:{percent(spent_s / most_s)}"), class_="costs"),
            element("td", duration(spent_s), class_="number"),
        )
        for cause, spent_s in lost.items()
    ]
    return [element("h3", "Time lost by cause"), element("table", element("tbody", *lines), class_="causes")]


def _plain(name: str) -> str:
    return name.replace("_", " ")
