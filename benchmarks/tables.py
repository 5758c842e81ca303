"""What a benchmark found, for people: one table of contenders, one of ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from .ratios import Claim
from .sizes import show_bytes, show_seconds

_COLUMNS: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("stall", "stall_s", show_seconds),
    ("to durable", "durable_s", show_seconds),
    ("restore, cold", "restore_s", show_seconds),
    ("restore, warm", "restore_warm_s", show_seconds),
    ("peak memory", "peak_extra_bytes", show_bytes),
    ("CPU of a save", "cpu_s", show_seconds),
    ("stored", "bytes_stored", show_bytes),
    ("read", "bytes_read", show_bytes),
)


def open_console() -> Console:
    """As wide as a terminal, and wide enough for the tables where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def contenders(report: Mapping[str, Any]) -> Table:
    """Medians, with the least and greatest sample below; `~`: not durable when the save counts as done."""
    arguments = report["arguments"]
    table = Table(
        title=f"{show_bytes(report['state']['bytes'])} in {report['state']['tensors']} tensors, "
        f"{arguments['ranks']} ranks, {arguments['storage_kind']}, {arguments['rounds']} rounds",
        caption="median (least .. greatest); ~ not durable when it counts as done",
    )
    table.add_column("")
    for title, _, _ in _COLUMNS:
        table.add_column(title, justify="right")
    for name, facts in report["contenders"].items():
        table.add_row(facts["title"], *(_cell(report, name, measure, show) for _, measure, show in _COLUMNS))
    return table


def _cell(report: Mapping[str, Any], name: str, measure: str, show: Callable[[float], str]) -> str:
    found = report["measures"].get(measure, {}).get(name)
    if found is None:
        return ""
    mark = "~" if measure == "durable_s" and not report["contenders"][name]["durable"] else ""
    shown = mark + show(found["median"])
    if len(found["samples"]) == 1:
        return shown
    return f"{shown}\n[dim]{show(found['min'])} .. {show(found['max'])}[/dim]"


def ratio_table(ratios: Mapping[str, float | None], claims: tuple[Claim, ...], noise: Mapping[str, Any]) -> Table:
    table = Table(title="ratios of medians in this run", caption=f"the same thing twice: {_shown_noise(noise)}")
    for column in ("", "goal", "found", ""):
        table.add_column(column, justify="left" if not column else "right")
    for claim in claims:
        value = ratios[claim.name]
        if value is not None:
            met = {True: "[green]reached[/green]", False: "[red]not reached[/red]", None: ""}[claim.meets(value)]
            table.add_row(claim.name, claim.goal, f"{value:.3g}", met)
    return table


def _shown_noise(noise: Mapping[str, Any]) -> str:
    shown = [f"{name} {value:.3f}" for name, value in noise.items() if value is not None]
    return ", ".join(shown) or "too few samples"
