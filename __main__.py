"""The command door: `relight VERB`. Parses, calls, exits; what a verb needs is imported when it is called."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .configs.protocol import ExitCode

app = typer.Typer(
    name="relight",
    help="Keeps PyTorch training runs alive.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Target = Annotated[
    str, typer.Argument(metavar="URL[@STEP]", help="A run's storage.url, with a step if not the newest.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
    add_help_option=False,
)
def run(context: typer.Context) -> None:
    """Train, and keep training: relight run [torchrun flags] CONFIG [key=value ...] | -- SCRIPT.py [args].

    Example: relight run --nproc-per-node 2 configs/digits.yaml train.lr=0.01
    """
    from .orchestrator.run import run as supervise

    raise typer.Exit(supervise(context.args))


@app.command()
def ls(url: Annotated[str, typer.Argument(metavar="URL", help="A run's storage.url.")], *, json: Json = False) -> None:
    """List a run's checkpoints, newest first. Example: relight ls runs/digits."""
    from .orchestrator.commands import inspection, printing

    printing.print_listing(inspection.list_checkpoints(url), as_json=json)


@app.command()
def show(
    target: Target,
    *,
    digest: Annotated[bool, typer.Option("--digest", help="One hex digest over the global state, alone.")] = False,
    json: Json = False,
) -> None:
    """Show one checkpoint: tensors, shards, state. Example: relight show runs/digits@200."""
    from .orchestrator.commands import inspection, printing

    if digest:
        value = inspection.digest_checkpoint(target, printing.complain)
        printing.print_digest(value, as_json=json)
    else:
        printing.print_checkpoint(inspection.show_checkpoint(target), as_json=json)


@app.command()
def verify(target: Target, *, json: Json = False) -> None:
    """Read and prove every byte of one step, or of all checkpoints. Exit 1 and the names of what is bad.

    Example: relight verify runs/digits
    """
    from .orchestrator.commands import inspection, printing

    with printing.byte_bar(lambda: inspection.stored_bytes(target), quiet=json) as on_bytes:
        results = list(inspection.verify_checkpoints(target, on_bytes))
    printing.print_verdicts(results, as_json=json)
    if not all(result["valid"] for result in results):
        raise typer.Exit(ExitCode.FAILED)


def main() -> None:
    """Run the command line; every foreseen error is one line, never a traceback."""
    from .storage.errors import StorageError

    try:
        app()
    except StorageError as error:
        sys.stderr.write(f"relight: {error}\n")
        raise SystemExit(ExitCode.FAILED) from None


if __name__ == "__main__":
    main()
