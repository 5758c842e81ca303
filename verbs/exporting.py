"""Taking a checkpoint elsewhere: export."""

from __future__ import annotations

import json as js
import re
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Final, Self

import typer

from ..configs.protocol import ExitCode
from ..workers.exchange.exporting.formats import Format
from .manners import Json, Target, leave, progress

_SIZE: Final = re.compile(r"(?P<count>[0-9]+(\.[0-9]+)?) ?(?P<unit>[KMGT]i?B|B)?", re.IGNORECASE)
_POWERS: Final = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """As the Hub's libraries spell it: 5GB is 5 * 1000 ** 3, 5GiB is 5 * 1024 ** 3."""
    found = _SIZE.fullmatch(text.strip())
    unit = (found["unit"] or "B").upper() if found else ""
    size = int(float(found["count"]) * (1024 if "I" in unit else 1000) ** _POWERS[unit[0]]) if found else 0
    if size < 1:
        raise typer.BadParameter(f"expected a size such as 5GB or 512MiB, got {text!r}")
    return size


def export(  # noqa: PLR0913 -- the options of a command
    target: Target,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A local path that is not there yet.")],
    *,
    format: Annotated[Format, typer.Option(help="What OUT is to be.")],  # noqa: A002 -- as people know it
    model: Annotated[
        str | None,
        typer.Option(metavar="MODULE:CALLABLE", help="torch: what makes the model, where no config says it."),
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="NAME", help="Which of several models.")] = None,
    shard_bytes: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="safetensors: files of at most so much: 5GB, 512MiB."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an OUT that is there.")] = False,
    json: Json = False,
) -> None:
    """Write a checkpoint as a file that other programs read: the newest that is proven valid, or that of STEP.

    torch: the whole model. state-dict: its weights, for load_state_dict. checkpoint: epoch, model, optimizer and loss
    in one dict. safetensors: the weights. dcp: a folder for torch.distributed.checkpoint.

    Example: relight export runs/digits digits.safetensors --format safetensors
    """
    from ..workers.exchange.exporting.export import export as write
    from ..workers.exchange.exporting.formats import Watching, Wishes
    from .errors import say

    signal.signal(signal.SIGTERM, _stop)
    with Bar(quiet=json) as bar:
        done = write(
            target,
            out,
            format=format,
            wishes=Wishes(model=model, only=only, shard_bytes=shard_bytes, overwrite=overwrite),
            watching=Watching(on_total=bar.begin, on_bytes=bar.count, on_notice=say),
        )
    if json:
        sys.stdout.write(js.dumps(done.facts(), indent=1) + "\n")
    else:
        sys.stdout.write(f"{done.out}: {done.format}, step {done.step}, {done.tensors} tensors, {done.bytes} bytes\n")
    leave(ExitCode.FINISHED)


class Bar:
    """Shown from when it is known how much there is to do; anew where a damaged checkpoint was passed over."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._shown = ExitStack()
        self._advance: Callable[[int], object] = lambda _: None

    def begin(self, total: int) -> None:
        self._shown.close()
        self._advance = self._shown.enter_context(progress("export", total, quiet=self._quiet))

    def count(self, count: int) -> None:
        self._advance(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()


def _stop(_signal: int, _frame: object) -> None:
    """A request to stop leaves as little behind as Ctrl-C."""
    raise KeyboardInterrupt
