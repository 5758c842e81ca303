"""How the commands' answers look: a table or text for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from .sizes import size_text

Facts = dict[str, Any]

_MOST_FLAWS = 20
"""Of one checkpoint: a shard that is gone is not told of block by block."""
_LONGEST_VALUE = 100


def complain(line: str) -> None:
    sys.stderr.write(f"relight: {line}\n")


def print_listing(listing: list[Facts], *, as_json: bool) -> None:
    if as_json:
        print_json(listing)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, justify in (
        ("step", "right"),
        ("epoch", "right"),
        ("loss", "right"),
        ("age", "right"),
        ("size", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # a literal
    table.add_column("ranks", justify="right")
    table.add_column("valid?", overflow="fold")
    for facts in listing:
        table.add_row(*_row(facts))
    console().print(table)


def _row(facts: Facts) -> tuple[str, ...]:
    standing = facts["standing"] if facts["standing"] == "committed" else f"{facts['standing']}: {facts['reason']}"
    if "bytes" not in facts:
        return (str(facts["step"]), "-", "-", "-", "-", "-", standing)
    return (
        str(facts["step"]),
        str(facts["epoch"]),
        _number(facts["loss"]),
        _age(facts["saved_at"]),
        size_text(facts["bytes"]),
        str(facts["world_size"]),
        standing,
    )


def print_checkpoint(facts: Facts, *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    screen = console()
    for key in (
        "step",
        "epoch",
        "samples",
        "loss",
        "metrics",
        "saved_at",
        "world_size",
        "generation",
        "attempt",
        "name",
    ):
        screen.print(f"{key:<12} {facts[key]}", soft_wrap=True)
    screen.print(f"{'size':<12} {size_text(facts['bytes'])}")
    shards = ((each["file"], size_text(each["bytes"]), str(each["tensors"])) for each in facts["shards"])
    tensors = ((name, each["dtype"], _shape(each["shape"])) for name, each in facts["tensors"].items())
    state = ((name, shortened(value, _LONGEST_VALUE)) for name, value in sorted(facts["state"].items()))
    for heads, rows in (
        (("shard", "size", "tensors"), shards),
        (("tensor", "dtype", "shape"), tensors),
        (("state", "value"), state),
    ):
        screen.print()
        screen.print(_table(heads, rows))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def shortened(value: Any, longest: int) -> str:
    """A JSON value in one line."""
    text = json.dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def print_digest(digest: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"digest": digest})
    else:
        sys.stdout.write(f"{digest}\n")


def print_verdicts(results: list[Facts], *, as_json: bool) -> None:
    if as_json:
        print_json(results)
        return
    for result in results:
        if result["valid"]:
            sys.stdout.write(f"step {result['step']}: every byte is proven\n")
        for damage in result["damage"][:_MOST_FLAWS]:
            sys.stdout.write(f"step {result['step']}: DAMAGED {damage['file']}: {damage['reason']}\n")
        if len(result["damage"]) > _MOST_FLAWS:
            sys.stdout.write(f"step {result['step']}: and {len(result['damage']) - _MOST_FLAWS} more; --json has all\n")


def print_copies(results: list[Facts], place: str, *, as_json: bool) -> None:
    if as_json:
        print_json(results)
        return
    for result in results:
        if result["outcome"] == "copied":
            sys.stdout.write(f"step {result['step']}: {size_text(result['bytes'])} copied to {place}\n")
        elif result["outcome"] == "there already":
            sys.stdout.write(f"step {result['step']}: is at {place} already\n")


def print_reclaimed(facts: Facts, *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    items, uploads = facts["items"], facts["unfinished_uploads"]
    if items:
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("step", justify="right")
        table.add_column("size", justify="right")
        table.add_column("why", overflow="fold")
        for item in items:
            table.add_row(str(item["step"]), size_text(item["bytes"]), item["reason"])
        console().print(table)
    if uploads:
        sys.stdout.write(f"{uploads} uploads that nobody will end\n")
    if not items and not uploads:
        sys.stdout.write("there is nothing to delete\n")
    elif facts["deleted"]:
        sys.stdout.write(f"freed {size_text(facts['bytes'])}\n")
    else:
        sys.stdout.write(f"nothing was deleted; --yes would free {size_text(facts['bytes'])}\n")


def _number(value: float | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.4f}"


def _age(saved_at: str) -> str:
    """How long ago, by this machine's clock; for people only."""
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(saved_at)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def console() -> Console:
    """Full width when piped, so that no value is cut; names stay as they are, whatever is in them."""
    width = None if sys.stdout.isatty() else 200
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
