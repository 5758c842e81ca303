"""Generations fence zombies: a launcher that was thought dead cannot put its checkpoints into a run that went on.

Every incarnation claims the next number by creating its record, which says what it resumed from. No clock is compared.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from .backends.base import Backend
from .errors import AlreadyExists, Damaged, NotFound, Superseded
from .layout import GENERATIONS, generation_key, parse_generation
from .manifest import Count, Record

_log = logging.getLogger(__name__)


class GenerationRecord(Record):
    """`resumed_from` is the step this generation started from; None for a start from nothing."""

    incarnation: str
    resumed_from: Count | None
    host: str


@dataclass(frozen=True, slots=True)
class Generation:
    number: int
    incarnation: str
    resumed_from: int | None


def claim(backend: Backend, *, incarnation: str, resumed_from: int | None, host: str) -> Generation:
    """Take the next generation, or return the one this incarnation has taken already (a restart within it).

    Raises:
        Superseded: this incarnation's generation exists and is no longer the newest.
    """
    record = GenerationRecord(incarnation=incarnation, resumed_from=resumed_from, host=host)
    while True:
        known = read_all(backend)
        newest = max(known, default=0)
        mine = next((g for g in known.values() if g is not None and g.incarnation == incarnation), None)
        if mine is not None:
            _refuse_if_later(backend, mine.number, newest)
            backend.settle(GENERATIONS)  # The process that claimed it may have been killed before it was durable.
            return mine
        try:
            backend.put(generation_key(newest + 1), record.to_bytes())
        except AlreadyExists:
            continue  # Another launcher was faster; see what it claimed and take the one after.
        return Generation(newest + 1, incarnation, resumed_from)


def read_all(backend: Backend) -> dict[int, Generation | None]:
    """Every generation by number; None for one whose record cannot be read, which still counts as taken."""
    found: dict[int, Generation | None] = {}
    for entry in backend.list(GENERATIONS):
        # A folder in a record's place takes the number all the same: nobody can claim it, and must not try for ever.
        key = entry.key.removesuffix("/")
        number = parse_generation(key)
        if number is None:
            continue
        try:
            record = GenerationRecord.load(backend, key)
        except (Damaged, NotFound) as error:
            _log.warning("%s; the generation fences nothing", error)
            found[number] = None
        else:
            found[number] = Generation(number, record.incarnation, record.resumed_from)
    return found


def refuse_if_superseded(backend: Backend, generation: int) -> None:
    """Raise `Superseded` when a later generation has started: the writer of `generation` must stop."""
    numbers = (parse_generation(entry.key.removesuffix("/")) for entry in backend.list(GENERATIONS))
    _refuse_if_later(backend, generation, max((n for n in numbers if n is not None), default=0))


def fenced(step: int, generation: int, known: Mapping[int, Generation | None]) -> int | None:
    """The later generation that rules this checkpoint out, if any. Pure.

    A later generation that resumed from an earlier step has redone what this checkpoint holds, so it was committed by
    a zombie or lies on an abandoned branch.
    """
    for number, later in sorted(known.items()):
        if number > generation and later is not None:
            resumed_from = -1 if later.resumed_from is None else later.resumed_from
            if step > resumed_from:
                return number
    return None


def _refuse_if_later(backend: Backend, mine: int, newest: int) -> None:
    if newest > mine:
        message = (
            f"generation {newest} of the run at {backend.url} has started; this launcher is generation {mine} "
            "and must not write any more. Stop it: the newer one goes on with the run"
        )
        raise Superseded(message)
