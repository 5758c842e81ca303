"""What Relight costs a training between its saves and while it saves: `python -m benchmarks.training --json OUT`.

Each figure is the median ratio of step times of neighbouring blocks, taken by turns in the same processes: steady (no
save due), memory (a copy in the host's memory at every step), persisting (a save is being written meanwhile).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from . import machine, samples, tables, training_scenes
from .peers.choosing import preload
from .peers.ours import knows
from .ranks import play
from .sizes import parse_bytes, show_bytes, show_seconds

_GOALS: Final = {
    "steady_over_bare": "<= 1.01",
    "memory_every_step_over_bare": "<= 1.05",
    "persisting_throughput_2_ranks": ">= 0.95",
    "persisting_throughput_core_to_spare": ">= 0.95",
}


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    preload(())
    folder = Path(tempfile.mkdtemp(dir=options.storage, prefix=".benchmark-"))
    try:
        found = {name: take(options, folder / name) for name, take in _PARTS.items() if name in options.parts}
    finally:
        shutil.rmtree(folder)
    report = {
        "benchmark": "training",
        "ratios": {name: ratio for part in found.values() for name, ratio in part["ratios"].items()},
        "noise": {name: part["noise"] for name, part in found.items() if "noise" in part},
        "parts": found,
        "arguments": {name: str(value) for name, value in vars(options).items()},
        "machine": machine.facts(str(options.storage)),
        "versions": machine.versions(),
    }
    tables.open_console().print(_table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--bytes", type=parse_bytes, default="512MiB", help="model and optimizer state")
    parser.add_argument("--step", type=float, default=0.8, help="seconds a step should take where memory is measured")
    parser.add_argument("--blocks", type=int, default=6, help="blocks of each kind, taken by turns")
    parser.add_argument("--steps", type=int, default=8, help="steps in a block")
    parser.add_argument("--parts", nargs="+", choices=sorted(_PARTS), default=sorted(_PARTS))
    parser.add_argument("--storage", type=Path, default=Path.cwd())
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def _steady(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A small model, so that what Relight adds to a step is not drowned by the step."""
    repeats = {"blocks": 10 * options.blocks, "steps": options.steps}
    blocks = play(training_scenes.steady, 2, {"url": str(folder), **repeats})[0]
    return _compared(blocks, "steady_over_bare")


def _memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    if not knows("memory_every"):
        return {"ratios": {"memory_every_step_over_bare": None}, "absent": "this Relight has no setting memory_every"}
    sizes = {"total_bytes": options.bytes, "step_s": options.step}
    repeats = {"blocks": options.blocks, "steps": options.steps}
    blocks = play(training_scenes.memory_every_step, 2, {"url": str(folder), **sizes, **repeats})[0]
    return _compared(blocks, "memory_every_step_over_bare")


def _compared(blocks: dict[str, list[float]], name: str) -> dict[str, Any]:
    """`blocks`: mean step times of blocks, `bare` and `ours` by turns."""
    return {
        "ratios": {name: samples.paired_ratio(blocks["ours"], blocks["bare"])},
        "noise": samples.paired_ratio(blocks["bare"][1:], blocks["bare"][:-1]),
        "step_s": samples.summaries(blocks),
    }


def _persisting(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Two ranks on all cores, and one rank whose training thread is held on one core while the rest is free."""
    ratios, details = {}, {}
    for name, ranks, pinned in (("2_ranks", 2, False), ("core_to_spare", 1, True)):
        arguments = {"total_bytes": options.bytes, "saves": options.blocks, "pinned": pinned}
        steps = play(training_scenes.persisting, ranks, {"url": str(folder / name), **arguments})[0]
        ratios[f"persisting_throughput_{name}"] = samples.paired_ratio(steps["quiet"], steps["persisting"])
        noise = samples.paired_ratio(steps["quiet"][1:], steps["quiet"][:-1])
        details[name] = {**samples.summaries(steps), "noise": noise}
    return {"ratios": ratios, "noise": details["2_ranks"]["noise"], "step_s": details}


_PARTS: Final[dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]]] = {
    "steady": _steady,
    "memory": _memory,
    "persisting": _persisting,
}


def _table(report: dict[str, Any]) -> Table:
    noise = ", ".join(f"{name} {value:.3f}" for name, value in report["noise"].items() if value is not None)
    table = Table(title="what a step costs", caption=f"neighbours of the same kind: {noise or 'too few samples'}")
    for column in ("", "goal", "found"):
        table.add_column(column, justify="right" if column else "left")
    for name, ratio in report["ratios"].items():
        table.add_row(name, _GOALS[name], "not measured" if ratio is None else f"{ratio:.3f}")
    for part in ("steady", "memory"):
        for kind, facts in report["parts"].get(part, {}).get("step_s", {}).items():
            table.add_row(f"[dim]{part}, {kind}[/dim]", "", f"[dim]{show_seconds(facts['median'])}[/dim]")
    table.add_row("[dim]state[/dim]", "", f"[dim]{show_bytes(int(report['arguments']['bytes']))}[/dim]")
    return table


if __name__ == "__main__":
    sys.exit(main())
