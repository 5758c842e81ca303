"""Taking things away: old checkpoints, and what crashed saves left. The manifest always goes first."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable

from . import generations, retention
from .backends.base import Backend
from .catalog import Catalog, Listed, Standing
from .errors import StorageError
from .layout import AttemptId, is_shard_name

_log = logging.getLogger(__name__)
_RECEIPT = re.compile(r"rank-[0-9]{5,9}\.json")


def delete_attempt(backend: Backend, attempt: AttemptId) -> None:
    """Remove one attempt. A crash in the middle leaves something that no reader takes for a checkpoint.

    Only names that Relight gives are removed: a file that somebody put there stays, and with it the folder.
    """
    backend.delete(attempt.manifest_key)
    for entry in backend.list(attempt.receipts):
        if _RECEIPT.fullmatch(entry.key.removeprefix(attempt.receipts)):
            backend.delete(entry.key)
    for entry in backend.list(attempt.folder):
        if is_shard_name(entry.key.removeprefix(attempt.folder)):
            backend.delete(entry.key)


def garbage(listing: Iterable[Listed], now: AttemptId) -> list[AttemptId]:
    """Attempts that nobody can ever use any more, as seen by the writer of `now`. Pure.

    What earlier worker groups left is garbage, and so are the given-up saves of earlier steps of its own group: a
    rank that was late may have written into them after they were cleared. Never garbage is what a later group or a
    later save writes, nor a damaged checkpoint: it stays for a person to look at until retention lets its step go.
    """
    useless = {Standing.UNFINISHED, Standing.FENCED}
    group = (now.generation, now.attempt)
    return [
        listed.id
        for listed in listing
        if listed.standing in useless
        and (
            (theirs := (listed.id.generation, listed.id.attempt)) < group
            or (theirs == group and listed.id.step < now.step)
        )
    ]


def old(listing: Collection[Listed], *, keep_last: int, protected: Collection[AttemptId]) -> list[AttemptId]:
    """Committed checkpoints that retention lets go, and damaged ones older than all that are kept. Pure."""
    committed = [listed.id for listed in listing if listed.standing is Standing.COMMITTED]
    going = retention.doomed(committed, keep_last=keep_last, protected=protected)
    if len(committed) < keep_last:
        return going
    oldest_kept = sorted(committed)[-keep_last]
    damaged = [listed.id for listed in listing if listed.standing is Standing.DAMAGED and listed.id < oldest_kept]
    return sorted([*going, *(attempt for attempt in damaged if attempt not in protected)])


def tidy(backend: Backend, now: AttemptId, *, keep_last: int, protected: Collection[AttemptId] = ()) -> list[AttemptId]:
    """Apply retention and sweep after the commit of `now`; returns what was deleted.

    Trouble is logged: the next commit tries again. A writer that was superseded deletes nothing, because its view of
    what may go is not that of the one that goes on with the run.
    """
    deleted = []
    try:
        generations.refuse_if_superseded(backend, now.generation)
        listing = list(Catalog(backend).listing())
        for doomed in [*old(listing, keep_last=keep_last, protected=protected), *garbage(listing, now)]:
            delete_attempt(backend, doomed)
            deleted.append(doomed)
    except StorageError as error:
        _log.warning("could not tidy %s: %s", backend.url, error)
    return deleted


def give_up(backend: Backend, now: AttemptId) -> None:
    """Reclaim the space of a save that failed, and of those before it. As far as the storage, in trouble, lets us."""
    try:
        delete_attempt(backend, now)
        for left in garbage(Catalog(backend).listing(), now):
            delete_attempt(backend, left)
    except StorageError as error:
        _log.warning("could not clear what the failed save of step %d left at %s: %s", now.step, backend.url, error)
