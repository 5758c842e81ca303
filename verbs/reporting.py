"""A run on one page: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .manners import Json


def report(
    url: Annotated[str, typer.Argument(metavar="URL", help="A run's storage.url, or a script's --log-dir.")],
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT.html]", help="Where the page goes: report.html unless given.")
    ] = None,
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also what is no report.")] = False,
    json: Json = False,
) -> None:
    """Write a run's course on one HTML page: loss, metrics, saves, failures, goodput. It needs no network.

    A report that is there already is replaced. With --json the numbers are printed, and a page is written only where
    an OUT is given.

    Example: relight report runs/digits report.html
    """
    import json as notation
    import sys
    import time

    from ..orchestrator.reporting import making

    now = time.time()
    story = making.read(url, now)
    if json:
        sys.stdout.write(notation.dumps(making.document(story), indent=1) + "\n")
    if out is not None or not json:
        page = out if out is not None else Path("report.html")
        making.write(page, story, making.local_zone(now), overwrite=overwrite)
        if not json:
            sys.stdout.write(f"{page}\n")
