"""Training, and training that is going on: run, status, chaos."""

from __future__ import annotations

import contextlib
import threading
from typing import Annotated

import typer

from ..configs.protocol import ExitCode
from .manners import Json, leave


def run(context: typer.Context) -> None:
    """Train, and keep training: relight run [torchrun flags] CONFIG [key=value ...] | -- SCRIPT.py [args].

    Example: relight run --nproc-per-node 2 configs/digits.yaml train.lr=0.01
    """
    from ..orchestrator.accounting.keeping import process_began_ns
    from ..orchestrator.run import run as supervise

    leave(supervise(context.args, process_began_ns()))


def status(
    url: Annotated[str, typer.Argument(metavar="URL", help="A run's storage.url, or a script's --log-dir.")],
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until the run ends.")] = False,
    json: Json = False,
) -> None:
    """Say how a run is doing, and where its time went.

    Example: relight status runs/digits --watch
    """
    import time

    from ..orchestrator.commands import status, status_view

    if not watch:
        status_view.print_status(status.status(url, time.time()), as_json=json)
        return
    with contextlib.suppress(KeyboardInterrupt):
        status_view.follow(lambda: status.status(url, time.time()), threading.Event().wait, as_json=json)


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

    from ..orchestrator.chaos.playing import Plan, play
    from ..orchestrator.commands.chaos import tell

    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    plan = Plan(faults, times, every, patience, rank, interface, outage)
    if not tell(play(url, plan, random.Random(seed)), seed=seed, as_json=json):  # noqa: S311 -- not for secrets
        raise typer.Exit(ExitCode.FAILED)
