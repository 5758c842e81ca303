"""What `relight chaos` prints: a line after each fault, and a table at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from statistics import median

from rich.console import Console
from rich.table import Table

from ..chaos.playing import Episode


def tell(episodes: Iterable[Episode], *, seed: int, as_json: bool) -> bool:
    """Print them as they come; whether the job came back from all of them."""
    seen: list[Episode] = []
    for number, episode in enumerate(episodes, 1):
        seen.append(episode)
        if not as_json:
            back = "it did not come back in time" if episode.back_s is None else f"back after {episode.back_s:.2f} s"
            sys.stdout.write(f"{number}: {episode.what}: {back}\n")
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps({"seed": seed, "episodes": [asdict(each) for each in seen]}, indent=1) + "\n")
    elif len(seen) > 1:
        Console(highlight=False).print(_table(seen, seed))
    return all(each.back_s is not None for each in seen)


def _table(seen: list[Episode], seed: int) -> Table:
    table = Table(title=f"seed {seed}", box=None, header_style="bold", pad_edge=False)
    for name in ("fault", "times", "came back", "median", "longest"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for fault in sorted({each.fault for each in seen}):
        times = [each.back_s for each in seen if each.fault == fault]
        back = [each for each in times if each is not None]
        shown = [f"{median(back):.2f} s", f"{max(back):.2f} s"] if back else ["-", "-"]
        table.add_row(fault, str(len(times)), str(len(back)), *shown)
    return table
