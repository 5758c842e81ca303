"""The manners of all verbs: how arguments are spelt, how progress is shown, how a command leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, NoReturn

import typer


def steps_there(incomplete: str) -> list[str]:
    """`runs/digits@` as the shell completes it: the steps that are there, newest first. Only of local runs: at once."""
    url, at, _ = incomplete.rpartition("@")
    if not at or "://" in url:
        return []
    from ..storage.backends.open import open_backend
    from ..storage.catalog import Catalog
    from ..storage.errors import StorageError

    with contextlib.suppress(StorageError):
        steps = dict.fromkeys(checkpoint.step for checkpoint in Catalog(open_backend(url)).committed())
        return [f"{url}@{step}" for step in steps]
    return []


Target = Annotated[
    str,
    typer.Argument(
        metavar="URL[@STEP]", help="A run's storage.url, with a step if not the newest.", autocompletion=steps_there
    ),
]
Url = Annotated[str, typer.Argument(metavar="URL", help="A run's storage.url.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def progress(
    what: str, total: Callable[[], int] | int, *, quiet: bool = False
) -> AbstractContextManager[Callable[[int], object]]:
    """Shows how far a long command is. For `advance`, which is told of every stretch of bytes that was done.

    A bar with rate and time left on a terminal, a line every ten seconds elsewhere; on stderr, and not when `quiet`.
    """
    from ..orchestrator.commands import progress as shown

    return shown.progress(what, total, quiet=quiet)


def end_as_by_ctrl_c() -> None:
    """From here on a request to stop (SIGTERM) leaves as little behind as Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """At once: everything is closed, and to unload torch takes longer than to start a worker."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
