"""Looking at what is stored: ls, show, verify, diff."""

from __future__ import annotations

from typing import Annotated

import typer

from ..configs.protocol import ExitCode
from .manners import Json, Target, Url, progress, steps_there


def ls(url: Url, *, json: Json = False) -> None:
    """List a run's checkpoints, newest first.

    Example: relight ls runs/digits
    """
    from ..orchestrator.commands import inspection, printing

    printing.print_listing(inspection.list_checkpoints(url), as_json=json)


def show(
    target: Target,
    *,
    digest: Annotated[bool, typer.Option("--digest", help="One hex digest over the global state, alone.")] = False,
    only: Annotated[str, typer.Option(metavar="PART", help="Only this part of the state: model, optimizer, ...")] = "",
    json: Json = False,
) -> None:
    """Show one checkpoint: tensors, shards, state.

    Example: relight show runs/digits@200
    """
    from ..orchestrator.commands import inspection, printing

    if digest:
        value = inspection.digest_checkpoint(target, printing.complain, only)
        printing.print_digest(value, as_json=json)
    else:
        printing.print_checkpoint(inspection.show_checkpoint(target, only), as_json=json)


def verify(target: Target, *, json: Json = False) -> None:
    """Read and prove every byte of one step, or of all checkpoints. Exit 1 and the names of what is bad.

    Example: relight verify runs/digits
    """
    from ..orchestrator.commands import inspection, printing

    with progress("verify", lambda: inspection.stored_bytes(target), quiet=json) as on_bytes:
        results = list(inspection.verify_checkpoints(target, on_bytes))
    printing.print_verdicts(results, as_json=json)
    if not all(result["valid"] for result in results):
        raise typer.Exit(ExitCode.FAILED)


def diff(
    target: Annotated[str, typer.Argument(metavar="URL[@A]", help="A checkpoint.", autocompletion=steps_there)],
    other: Annotated[
        str,
        typer.Argument(metavar="URL[@B]", help="Another one, of the same run or not.", autocompletion=steps_there),
    ],
    *,
    json: Json = False,
) -> None:
    """Compare two checkpoints tensor by tensor. Exit 0: equal, 1: different, 2: they cannot be compared.

    Example: relight diff runs/digits@200 runs/digits@400
    """
    from ..orchestrator.commands import comparing, comparison_view, printing
    from ..orchestrator.errors import UsageError
    from ..storage.errors import StorageError

    try:
        facts = comparing.compare(
            target, other, complain=printing.complain, progress=lambda size: progress("diff", size, quiet=json)
        )
    except StorageError as error:  # Not 1, which says that they differ.
        raise UsageError(str(error)) from None
    comparison_view.print_comparison(facts, as_json=json)
    if not facts["equal"]:
        raise typer.Exit(ExitCode.FAILED)
