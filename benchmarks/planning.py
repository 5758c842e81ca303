"""What it costs a rank to plan a save, from 1 to 1,024 simulated ranks: `python -m benchmarks.planning --json OUT`.

Planning is a pure function of names, shapes and world size, so one process can play every rank in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from relight.storage.arrangement import Arrangement, arrange, lay_out
from relight.storage.manifest import Manifest, Progress, ShardEntry
from relight.workers.checkpoint.plan import TensorSpec, share

from . import machine, tables
from .sizes import show_bytes, show_seconds

WORLDS: Final = (1, 2, 4, 8, 16, 64, 256, 1024)
_REPEATS: Final = 5
_COPIES: Final = ("model", "exp_avg", "exp_avg_sq")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--parameters", type=int, default=400, help="tensors of the model: a third of all")
    parser.add_argument("--worlds", type=int, nargs="+", default=list(WORLDS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    specs = transformer(options.parameters)
    rows = [measure(specs, world) for world in options.worlds]
    report = {
        "benchmark": "planning",
        "state": {"bytes": sum(spec.size for spec in specs), "tensors": len(specs)},
        "ratios": ratios(rows),
        "worlds": rows,
        "machine": machine.facts("."),
        "versions": machine.versions(),
    }
    tables.open_console().print(_table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def transformer(parameters: int) -> list[TensorSpec]:
    """Names and shapes as a language model of some billions of parameters has them, with its two moments."""
    shapes = ((4096, 4096), (11008, 4096), (4096, 11008), (4096,))
    names = ("attention.weight", "up.weight", "down.weight", "norm.weight")
    return [
        TensorSpec(f"{copy}/layers.{number // 4}.{names[number % 4]}", "F32", shapes[number % 4])
        for copy in _COPIES
        for number in range(parameters)
    ]


def measure(specs: list[TensorSpec], world: int) -> dict[str, Any]:
    """One world size. Times: the best of some repetitions; the slowest of the first, middle and last rank."""
    sampled = sorted({0, world // 2, world - 1})
    seconds = {rank: [_timed(specs, rank, world) for _ in range(_REPEATS)] for rank in sampled}
    shares = [share(specs, rank, world) for rank in _spread(world)]
    sizes = [sum(piece.size for piece in pieces) for pieces in shares]
    mean = sum(spec.size for spec in specs) / world
    arranged = [arrange(pieces) for pieces in (shares[0], shares[-1])]
    header = max(len(lay_out(each, {}).header) for each in arranged)
    return {
        "ranks": world,
        "plan_s": max(min(samples) for samples in seconds.values()),
        "plan_samples_s": seconds,
        "each_save_s": max(_each_save(each) for each in arranged),
        "largest_share_over_mean": max(sizes) / mean,
        "smallest_share_over_mean": min(sizes) / mean,
        "header_bytes": header,
        "manifest_bytes_per_rank": len(manifest(world).to_bytes()) / world,
    }


def _spread(world: int) -> list[int]:
    """All ranks of a small world, 64 of a large one."""
    return sorted({rank * (world - 1) // max(1, min(world, 64) - 1) for rank in range(min(world, 64))})


def _timed(specs: list[TensorSpec], rank: int, world: int) -> float:
    """What a rank computes alone, once as long as the state keeps its structure: its share, and where it lies."""
    began = time.perf_counter()
    lay_out(arrange(share(specs, rank, world)), {})
    return time.perf_counter() - began


def _each_save(arranged: Arrangement) -> float:
    """What is left of it for the saves after the first: the header, with that save's numbers in it."""
    samples = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        lay_out(arranged, {"step": 1})
        samples.append(time.perf_counter() - began)
    return min(samples)


def manifest(world: int) -> Manifest:
    """As rank 0 commits it, with all numbers as long as they get."""
    return Manifest(
        run="0" * 32,
        step=10**9,
        generation=10**6,
        attempt=100,
        nonce="abcdef",
        token="0" * 32,
        saved_at="2026-01-01T00:00:00.000000+00:00",
        progress=Progress(epoch=100, step=10**9, samples=10**9, loss=1 / 3, metrics={"accuracy": 1 / 3}),
        shards=tuple(ShardEntry(rank=rank, size=10**11, root="f" * 32) for rank in range(world)),
    )


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """`plan_growth`: the slowest world over the first; the others are the worst of all worlds."""
    return {
        "plan_growth": max(row["plan_s"] for row in rows) / rows[0]["plan_s"],
        "largest_share_over_mean": max(row["largest_share_over_mean"] for row in rows),
        "manifest_kib_per_rank": max(row["manifest_bytes_per_rank"] for row in rows if row["ranks"] > 1) / 1024
        if len(rows) > 1
        else rows[0]["manifest_bytes_per_rank"] / 1024,
    }


def _table(report: dict[str, Any]) -> Table:
    state = report["state"]
    table = Table(
        title=f"planning {show_bytes(state['bytes'])} in {state['tensors']} tensors, on each rank",
        caption=", ".join(f"{name} {value:.3g}" for name, value in report["ratios"].items()),
    )
    for column in ("ranks", "to plan", "each save", "largest share / mean", "header", "manifest / rank"):
        table.add_column(column, justify="right")
    for row in report["worlds"]:
        table.add_row(
            str(row["ranks"]),
            show_seconds(row["plan_s"]),
            show_seconds(row["each_save_s"]),
            f"{row['largest_share_over_mean']:.3f}",
            show_bytes(row["header_bytes"]),
            show_bytes(row["manifest_bytes_per_rank"]),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
