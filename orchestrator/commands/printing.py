"""How the commands' answers look: a table or text for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

Facts = dict[str, Any]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def complain(line: str) -> None:
    sys.stderr.write(f"relight: {line}\n")


def print_listing(listing: list[Facts], *, as_json: bool) -> None:
    if as_json:
        _print_json(listing)
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
    _console().print(table)


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
        _print_json(facts)
        return
    console = _console()
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
        console.print(f"{key:<12} {facts[key]}", soft_wrap=True)
    console.print(f"{'size':<12} {size_text(facts['bytes'])}")
    shards = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("shard", "size", "tensors"):
        shards.add_column(name, overflow="fold")
    for shard in facts["shards"]:
        shards.add_row(shard["file"], size_text(shard["bytes"]), str(shard["tensors"]))
    tensors = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("tensor", "dtype", "shape"):
        tensors.add_column(name, overflow="fold")
    for name, tensor in facts["tensors"].items():
        tensors.add_row(name, tensor["dtype"], " x ".join(map(str, tensor["shape"])) or "scalar")
    for table in (shards, tensors):
        console.print()
        console.print(table)


def print_digest(digest: str, *, as_json: bool) -> None:
    if as_json:
        _print_json({"digest": digest})
    else:
        sys.stdout.write(f"{digest}\n")


def print_verdicts(results: list[Facts], *, as_json: bool) -> None:
    if as_json:
        _print_json(results)
        return
    for result in results:
        if result["valid"]:
            sys.stdout.write(f"step {result['step']}: every byte is proven\n")
        for damage in result["damage"]:
            sys.stdout.write(f"step {result['step']}: DAMAGED {damage['file']}: {damage['reason']}\n")


@contextmanager
def byte_bar(total: Callable[[], int], *, quiet: bool) -> Iterator[Callable[[int], object]]:
    """A bar with rate and time left on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("verify", total=total())
        yield lambda count: progress.advance(task, count)


def size_text(count: float) -> str:
    """Bytes in binary units."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def _number(value: float | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.4f}"


def _age(saved_at: str) -> str:
    """How long ago, by this machine's clock; for people only."""
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(saved_at)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _console() -> Console:
    """Full width when piped, so that no value is cut."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
