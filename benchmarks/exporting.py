"""What memory an export takes beside what it writes: `python -m benchmarks.exporting --bytes 2GiB [--json OUT]`.

Each format is written by a `relight export` of its own, and its peak is what the kernel counts for that process (the
largest resident set, pages of files among it). The first row is a process that imports torch and does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from . import machine, tables
from .sizes import parse_bytes, show_bytes, show_seconds

_FORMATS: Final = ("safetensors", "state-dict", "torch", "checkpoint", "dcp")
_GOAL_BYTES: Final = 600 * 1000 * 1000


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    folder = Path(tempfile.mkdtemp(dir=options.storage, prefix=".benchmark-"))
    try:
        rows = measure(folder, options.bytes, options.formats)
    finally:
        shutil.rmtree(folder)
    report = {
        "benchmark": "exporting",
        "ratios": {"largest_peak_over_600_mb": _largest(rows) / _GOAL_BYTES},
        "formats": rows,
        "arguments": {name: str(value) for name, value in vars(options).items()},
        "machine": machine.facts(str(options.storage)),
        "versions": machine.versions(),
    }
    tables.open_console().print(_table(rows))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exporting", description=__doc__)
    parser.add_argument("--bytes", type=parse_bytes, default="2GiB", help="model and optimizer state")
    parser.add_argument("--formats", nargs="+", choices=_FORMATS, default=_FORMATS)
    parser.add_argument("--storage", type=Path, default=Path.cwd())
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def measure(folder: Path, total_bytes: int, formats: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """By format: seconds, the process's peak, and the bytes that it wrote."""
    run, out = folder / "run", folder / "out"
    _peak("-m", "benchmarks.wide", str(run), str(total_bytes))
    rows = {"import torch": _peak("-c", "import os, torch; os._exit(0)")}
    for name in formats:
        maker = ("--model", f"benchmarks.wide:wide_{_shape(total_bytes)}") if name == "torch" else ()
        row = _peak("-m", "relight", "export", str(run), str(out), "--format", name, *maker)
        rows[name] = {**row, "written_bytes": _size(out)}
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    return rows


def _shape(total_bytes: int) -> str:
    command = [sys.executable, "-c", f"from benchmarks.wide import shape; print(*shape({total_bytes}), sep='_')"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _peak(*arguments: str) -> dict[str, Any]:
    """Of one process. This one has no torch: a child begins with its parent's pages."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} has failed with code {process.returncode}")
    return {"seconds": time.perf_counter() - began, "peak_bytes": used.ru_maxrss << 10}


def _largest(rows: dict[str, dict[str, Any]]) -> int:
    return max(int(row["peak_bytes"]) for row in rows.values())


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in path.iterdir()) if path.is_dir() else path.stat().st_size


def _table(rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(caption="peak: the largest resident set of the process; the goal is 600 MB (572 MiB)")
    for column in ("", "written", "peak memory", "time"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in rows.items():
        written = show_bytes(row["written_bytes"]) if "written_bytes" in row else "-"
        table.add_row(name, written, show_bytes(row["peak_bytes"]), show_seconds(row["seconds"]))
    return table


if __name__ == "__main__":
    raise SystemExit(main())
