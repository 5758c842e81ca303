"""Bringing in what others have written: import."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .manners import Json, progress

if TYPE_CHECKING:
    from ..workers.exchange.importing.wishes import Imported


def import_(  # noqa: PLR0913 -- the options of a command
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .pt or .pth, safetensors, or a folder of DCP's or the Hub's.")
    ],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the run is to be; nothing may be there yet.")],
    *,
    step: Annotated[int | None, typer.Option(min=0, help="The steps done, where the file does not say.")] = None,
    epoch: Annotated[int | None, typer.Option(min=0, help="The epoch to go on with, counted from 0.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODULE:CALLABLE", help="What makes the model: for the order of its parameters."),
    ] = None,
    rename_key: Annotated[
        list[str] | None, typer.Option(metavar="KEY=PART", help="Take a key of the file for another. Repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave a key, or a part, out. Repeatable.")
    ] = None,
    strip_prefix: Annotated[str, typer.Option(help="What to take off the names of the model's tensors.")] = "",
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Run the code that the file holds, as whole models do.")
    ] = False,
    json: Json = False,
) -> None:
    """Start a run from a checkpoint that something else has written.

    Example: relight import checkpoint.pt runs/mine
    """
    from ..workers.exchange.importing.bringing_in import prepare
    from ..workers.exchange.importing.wishes import Wishes

    wishes = Wishes(
        step=step,
        epoch=epoch,
        model=model,
        trusted=trust_pickle,
        renames=dict(map(_pair, rename_key or [])),
        without=frozenset(without or []),
        strip_prefix=strip_prefix,
    )
    prepared = prepare(file, url, wishes)
    with progress("import", prepared.size, quiet=json) as on_bytes:
        imported = prepared.commit(on_bytes)
    if json:
        sys.stdout.write(json_format.dumps(imported.facts(), indent=1) + "\n")
    else:
        sys.stdout.write(told(imported))


def told(imported: Imported) -> str:
    """What was brought in, what was not, and how to go on."""
    from ..orchestrator.commands.sizes import size_text

    loss = "" if imported.loss is None else f", loss {imported.loss:g}"
    lines = [
        f"imported {imported.file} ({imported.format}, {size_text(imported.bytes)}) into {imported.url}",
        f"  at         step {imported.step}, epoch {imported.epoch}{loss}",
        *(f"  {part:<10} {what}" for part, what in imported.parts.items()),
        *(f"  note       {note}" for note in imported.notes),
    ]
    if imported.left_out:
        lines.append(f"  left out   {', '.join(imported.left_out)}: no part of a run that is known")
    lines += [
        "What is not listed begins anew: random generators, the position in the data, and whatever else the run has.",
        (
            f"next: relight run CONFIG storage.url={imported.url}, "
            f"or relight.Checkpointer({imported.url!r}, ...) in a script"
        ),
    ]
    return "\n".join(lines) + "\n"


def _pair(option: str) -> tuple[str, str]:
    key, sign, part = option.partition("=")
    if not (key and sign and part):
        raise typer.BadParameter(f"{option} is not KEY=PART, as in optimazer_state_dict=optimizer_state_dict")
    return key, part
