"""The medians of one report as bars, on a logarithmic scale: seconds differ by a hundred."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_PANELS: Final = {"stall_s": "training stands still", "durable_s": "until saved", "restore_s": "restore, cold cache"}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(_PANELS), figsize=(5 * len(_PANELS), 4.5), layout="constrained")
    for axes, (measure, title) in zip(panels, _PANELS.items(), strict=True):
        found = report["measures"].get(measure, {})
        names = [name for name in report["contenders"] if name in found]
        medians = [found[name]["median"] for name in names]
        spread = [
            [found[name]["median"] - found[name]["min"] for name in names],
            [found[name]["max"] - found[name]["median"] for name in names],
        ]
        colors = ["tab:orange" if name.startswith("relight") else "tab:gray" for name in names]
        axes.barh([report["contenders"][name]["title"] for name in names], medians, xerr=spread, color=colors)
        axes.set(title=title, xlabel="seconds", xscale="log")
        axes.invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)
