"""Copying checkpoints to another place, and taking away what is not needed: cp, gc."""

from __future__ import annotations

from typing import Annotated

import typer

from ..configs.protocol import ExitCode
from .manners import Json, Target, Url, end_as_by_ctrl_c, progress


def cp(
    target: Target,
    url2: Annotated[str, typer.Argument(metavar="URL2", help="A new place, or a copy of the same run.")],
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every committed checkpoint, not only the newest.")] = False,
    single_writer: Annotated[
        bool, typer.Option("--single-writer", help="URL2 refuses no second write, and nothing else writes there.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy a checkpoint to another place, where the run can go on. Every byte is proven on the way.

    Example: relight cp runs/digits@200 s3://bucket/digits
    """
    from ..orchestrator.commands import copying, printing

    end_as_by_ctrl_c()
    wish = copying.Wish(target=target, place=url2, everything=everything, single_writer=single_writer)
    results = copying.copy(wish, complain=printing.complain, progress=lambda size: progress("cp", size, quiet=json))
    printing.print_copies(results, url2, as_json=json)
    if any(result["outcome"] == "damaged" for result in results):
        raise typer.Exit(ExitCode.FAILED)


def gc(  # noqa: PLR0913 -- the options of a command
    url: Url,
    *,
    keep_last: Annotated[int | None, typer.Option(min=1, metavar="N", help="Keep the N newest checkpoints.")] = None,
    keep_every: Annotated[
        str | None, typer.Option(metavar="EVERY", help="And one in so many steps (1000) or so much time (2h).")
    ] = None,
    keep_best: Annotated[
        str | None, typer.Option(metavar="METRIC[:min|max]", help="And the best by a metric; max, unless said.")
    ] = None,
    pin: Annotated[list[int] | None, typer.Option(metavar="STEP", help="And this step; may be repeated.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it.")] = False,
    json: Json = False,
) -> None:
    """Say what is of no use any more, and with --yes delete it.

    Without a --keep rule that is only what nobody can resume from: saves that were never finished, and what an
    abandoned branch of the run has left. The newest valid checkpoint stays in any case.

    Example: relight gc runs/digits --keep-last 2 --yes
    """
    from ..orchestrator.commands import printing, reclaiming

    rules = reclaiming.rules(keep_last, keep_every, keep_best, pin)
    facts = reclaiming.collect(
        url,
        rules,
        delete=yes,
        complain=printing.complain,
        progress=lambda size: progress("proving the newest", size, quiet=json),
    )
    printing.print_reclaimed(facts, as_json=json)
