"""`relight cp`: which checkpoints are copied, and what is said of it. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ...storage import runs
from ...storage.backends.base import Backend
from ...storage.backends.open import open_backend
from ...storage.catalog import Catalog
from ...storage.choosing import Complain, catalog, choices
from ...storage.copying import Copier, find, lies_at
from ...storage.errors import Busy, Damaged, NotFound
from ...storage.manifest import Manifest
from ...storage.target import split_target
from ..errors import UsageError
from .presence import at_work

Facts = dict[str, Any]

Progress = Callable[[int], AbstractContextManager[Callable[[int], object]]]
"""Given the bytes that are going to be copied, shows how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`everything`: all committed checkpoints and not one. `single_writer`: as in a configuration."""

    target: str
    place: str
    everything: bool = False
    single_writer: bool = False


def copy(wish: Wish, *, complain: Complain, progress: Progress) -> list[Facts]:
    """One result for each checkpoint that was wanted: copied, there already, or damaged and left out.

    Raises:
        NotFound: there is nothing to copy.
        Damaged: the step that was asked for is.
        OtherRun, Busy: the place is taken. Nothing was changed there.
    """
    url, step = split_target(wish.target)
    source, place = open_backend(url), open_backend(wish.place)
    catalog(source)
    record = runs.read(source)
    there = [each.manifest for each in Catalog(place).committed()] if lies_at(place, record) else []
    wanted = _all(source, step) if wish.everything else choices(source, step)
    session = _Session(source, place, complain, progress)
    results: list[Facts] = []
    for manifest in wanted:
        if (found := find(manifest, there)) is not None:
            results.append(_facts(found, "there already"))
        else:
            session.begin(record, single_writer=wish.single_writer)
            results.append(session.copy(manifest, exactly=step is not None))
        if results[-1]["outcome"] != "damaged" and not wish.everything:
            return [results[-1]]
    return results


class _Session:
    """Takes the place when there is something to copy, and not before."""

    def __init__(self, source: Backend, place: Backend, complain: Complain, progress: Progress) -> None:
        self._source = source
        self._place = place
        self._complain = complain
        self._progress = progress
        self._advance: Callable[[int], object] = lambda _: None
        self._copier: Copier | None = None

    def begin(self, record: runs.RunRecord, *, single_writer: bool) -> None:
        if self._copier is None:
            _refuse_if_busy(self._place)
            self._copier = Copier(self._source, self._place, self._tell)
            self._copier.take(record, single_writer=single_writer)

    def _tell(self, count: int) -> None:
        self._advance(count)

    def copy(self, manifest: Manifest, *, exactly: bool) -> Facts:
        assert self._copier is not None
        try:
            with self._progress(manifest.size) as self._advance:
                return _facts(self._copier.copy(manifest), "copied")
        except Damaged as error:
            if exactly:
                raise
            self._complain(f"step {manifest.step} is passed over: {error}")
            return _facts(manifest, "damaged")


def _all(source: Backend, step: int | None) -> Iterable[Manifest]:
    """Oldest first: what is cut off has copied a run as it once was."""
    if step is not None:
        message = f"--all copies every checkpoint, and @{step} asks for one"
        raise UsageError(message)
    found: Iterator[Manifest] = (checkpoint.manifest for checkpoint in catalog(source).committed())
    everything = sorted(found, key=lambda manifest: manifest.id)
    if not everything:
        message = f"there is no committed checkpoint at {source.url}"
        raise NotFound(message)
    return everything


def _refuse_if_busy(place: Backend) -> None:
    who = at_work(place, time.time())
    if who:
        message = f"{place.url} holds this run already, and {who}. Stop it first, or choose another place"
        raise Busy(message)


def _facts(manifest: Manifest, outcome: str) -> Facts:
    return {"step": manifest.step, "name": manifest.id.name, "bytes": manifest.size, "outcome": outcome}
