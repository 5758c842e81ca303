"""Which checkpoints a command may take from a URL, and whether there is a run at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from .backends.base import Backend
from .catalog import Catalog
from .errors import NotFound
from .layout import CHECKPOINTS, GENERATIONS, JOURNAL, RUN_KEY
from .manifest import Manifest
from .probe import is_probe

_OURS: Final = frozenset({RUN_KEY, GENERATIONS, CHECKPOINTS, JOURNAL})

Complain = Callable[[str], object]
"""Told, in a line, of what was passed over."""


def catalog(backend: Backend) -> Catalog:
    """Raises NotFound when there is no run."""
    there = [entry.key for entry in backend.list("") if not is_probe(entry.key)]
    if not there:
        message = f"there is no run at {backend.url}"
        raise NotFound(message)
    if _OURS.isdisjoint(there):
        message = f"there is no run at {backend.url}: what is in it is not Relight's ({_some(there)})"
        raise NotFound(message)
    return Catalog(backend)


def choices(backend: Backend, step: int | None) -> Iterator[Manifest]:
    """What a command may take, best first: every committed checkpoint or, when asked for a step, that one alone.

    Raises:
        NotFound: there is no run, or no such step; or nothing that was taken was any good.
    """
    there = catalog(backend)
    if step is not None:
        yield there.find(step).manifest
        return
    for checkpoint in there.committed():
        yield checkpoint.manifest
    message = f"there is no valid checkpoint at {backend.url}"
    raise NotFound(message)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
