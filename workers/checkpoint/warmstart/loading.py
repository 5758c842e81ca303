"""Giving a model weights that exist: on all ranks or on none, and nothing before everything was compared."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import torch
import torch.distributed as dist
import xxhash
from torch import nn

from ...errors import BadWeights
from ...notices import say
from ..collective import Circle, open_control
from ..state import Parts
from .agreeing import agreed
from .comparing import Comparison, compare
from .live import Live
from .opening import open_source
from .report import Initial
from .settings import InitFrom
from .tensors import Source

Models = nn.Module | Mapping[str, nn.Module]


def init_from(model: Models, settings: InitFrom | str) -> Initial:
    """Load weights into `model`, wrapped or not, and say what was loaded. A collective; `settings` may be the source.

    For scripts that do not give `init_from` to `Checkpointer`, which loads only where there is nothing to resume.

    Raises:
        BadWeights: the source cannot be found or read, or a pattern matches nothing.
        StateMismatch: the source does not fit the model; nothing was loaded.
        StorageTrouble: the storage did not answer.
    """
    control = open_control()
    try:
        circle = Circle(control)
        initial = load_initial(model, settings, circle)
        if circle.rank == 0:
            say(initial.text)
        return initial
    finally:
        if control is not None:
            dist.destroy_process_group(control)


def load_initial(model: Models, settings: InitFrom | str, circle: Circle) -> Initial:
    """As `init_from`, without a word."""
    settings = InitFrom(settings) if isinstance(settings, str) else settings
    models = Parts(model=model).models
    with ExitStack() as keep:
        source = open_source(settings.source, models.get(""), circle, keep)
        live = Live(models)
        wanting = live.wanting
        done = agreed(circle, lambda: compare(source.described, wanting, settings, source.title))
        _refuse_difference(circle, _fingerprint(source, done), "find other tensors in")
        _refuse_difference(circle, agreed(circle, lambda: _fill(live, source, done, circle)), "read other bytes from")
    return Initial(source.title, done, source.described, wanting.tensors)


@torch.no_grad()
def _fill(live: Live, source: Source, done: Comparison, circle: Circle) -> str:
    """Copy tensor by tensor. Returns a digest of what every rank holds whole, and so has to be the same on all."""
    tied = live.wanting.tied
    filled: dict[str, str] = {}
    digest = xxhash.xxh3_128()
    places = {ours: live.place(ours) for _, ours in done.pairs}
    for theirs, ours in done.pairs:
        place = places[ours]
        if place.box.is_empty:
            continue
        values = source.read(theirs, place.box)
        first = filled.setdefault(tied[ours], ours)
        if first == ours:
            place.local.copy_(values)
        elif not torch.equal(place.local.cpu(), values.to(place.local.dtype)):
            raise BadWeights(
                f"init_from: {first} and {ours} are one tensor in this model, and two different ones in "
                f"{source.title}. Say which is meant, under init_from:\n  exclude: [{ours}]"
            )
        if circle.size > 1 and not place.is_sharded:
            digest.update(values.contiguous().flatten().view(torch.uint8).numpy().data)
    live.settle()
    return digest.hexdigest()


def _fingerprint(source: Source, done: Comparison) -> str:
    facts = [(theirs, ours, source.described[theirs]) for theirs, ours in done.pairs]
    return xxhash.xxh3_128_hexdigest(repr(facts).encode())


def _refuse_difference(circle: Circle, mine: str, what: str) -> None:
    """A file of the same name may be another one on another host: DDP would train on, with every rank its own model."""
    all_of_them = circle.exchange(mine)
    others = [str(rank) for rank, theirs in enumerate(all_of_them) if theirs != all_of_them[0]]
    if others:
        raise BadWeights(
            f"init_from: ranks {', '.join(others)} {what} the source than rank 0: is it the same file on all hosts? "
            "Put it where all of them reach the same one"
        )
