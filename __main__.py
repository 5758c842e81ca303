"""The command door: `relight VERB`. Parses, calls, exits; what a verb needs is imported when it is called."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Annotated, NoReturn

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
    from .orchestrator.accounting.keeping import process_began_ns
    from .orchestrator.run import run as supervise

    _leave(supervise(context.args, process_began_ns()))


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


@app.command()
def status(
    url: Annotated[str, typer.Argument(metavar="URL", help="A run's storage.url, or a script's --log-dir.")],
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until the run ends.")] = False,
    json: Json = False,
) -> None:
    """Say how a run is doing, and where its time went. Example: relight status runs/digits --watch."""
    import time

    from .orchestrator.commands import status, status_view

    if not watch:
        status_view.print_status(status.status(url, time.time()), as_json=json)
        return
    with contextlib.suppress(KeyboardInterrupt):
        status_view.follow(lambda: status.status(url, time.time()), threading.Event().wait, as_json=json)


@app.command()
def chaos(  # noqa: PLR0913 -- the options of a command
    faults: Annotated[list[str], typer.Argument(metavar="FAULT...", help="Any of the faults above; one at random.")],
    *,
    url: Annotated[str | None, typer.Option(help="The run's storage.url, where several jobs run here.")] = None,
    times: Annotated[int, typer.Option(min=1, help="How many faults, one after another.")] = 1,
    every: Annotated[float, typer.Option(min=0, help="Seconds of training before each.")] = 5.0,
    patience: Annotated[float, typer.Option(min=0, help="Seconds that the job has to come back.")] = 120.0,
    rank: Annotated[int | None, typer.Option(help="Whom to kill or to hang; else anybody.")] = None,
    interface: Annotated[str | None, typer.Option(help="What netdrop cuts off.")] = None,
    outage: Annotated[float, typer.Option(min=0, help="Seconds that netdrop lasts.")] = 15.0,
    seed: Annotated[int | None, typer.Option(help="Of the choices; printed.")] = None,
    json: Json = False,
) -> None:
    """Break your own running job on this host, and see it come back. Exit 1 when it does not.

    kill, hang (a rank), kill-persister, preempt, kill-launcher, corrupt (the newest checkpoint), netdrop.

    Example: relight chaos kill hang --times 20 --every 3
    """
    import random

    from .orchestrator.chaos.playing import Plan, play
    from .orchestrator.commands.chaos import tell

    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    plan = Plan(faults, times, every, patience, rank, interface, outage)
    if not tell(play(url, plan, random.Random(seed)), seed=seed, as_json=json):  # noqa: S311 -- not for secrets
        raise typer.Exit(ExitCode.FAILED)


def _leave(code: int) -> NoReturn:
    """At once: everything is closed, and to unload torch takes longer than to start a worker."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def main() -> None:
    """Run the command line; every foreseen error is one line, never a traceback."""
    from .orchestrator.errors import UsageError
    from .storage.errors import StorageError

    try:
        app()
    except UsageError as error:
        sys.stderr.write(f"relight: {error}\n")
        raise SystemExit(ExitCode.USAGE) from None
    except StorageError as error:
        sys.stderr.write(f"relight: {error}\n")
        raise SystemExit(ExitCode.FAILED) from None


if __name__ == "__main__":
    main()
