"""Taking things away: old checkpoints, and what crashed saves left. The manifest always goes first."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator

from . import generations, retention, uploads
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
    inside = [entry.key for entry in backend.list(attempt.folder)]
    if attempt.receipts in inside:  # Not through a link, which is no folder and may lead anywhere.
        for entry in backend.list(attempt.receipts):
            if _RECEIPT.fullmatch(entry.key.removeprefix(attempt.receipts)):
                backend.delete(entry.key)
    for key in inside:
        if is_shard_name(key.removeprefix(attempt.folder)):
            backend.delete(key)


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


def old(listing: Collection[Listed], rules: retention.Rules, *, protected: Collection[AttemptId]) -> list[AttemptId]:
    """Committed checkpoints that retention lets go, and damaged ones older than the newest that are kept. Pure."""
    committed = sorted(listed.id for listed in listing if listed.standing is Standing.COMMITTED)
    if len(committed) < rules.keep_last:
        return []
    going = retention.doomed(list(_candidates(listing)), rules, protected=protected)
    oldest_kept = committed[-rules.keep_last]
    damaged = (listed.id for listed in listing if listed.standing is Standing.DAMAGED and listed.id < oldest_kept)
    return sorted([*going, *(id_ for id_ in damaged if id_ not in protected and id_.step not in rules.pinned)])


def _candidates(listing: Iterable[Listed]) -> Iterator[retention.Candidate]:
    for listed in listing:
        if listed.standing is Standing.COMMITTED:
            yield retention.Candidate.of(listed.manifest) if listed.manifest else retention.Candidate(listed.id)


def missing(listing: Iterable[Listed], own: Collection[AttemptId]) -> list[AttemptId]:
    """Those of `own` that the listing does not show as checkpoints: then it is not to be believed. Pure."""
    shown = {listed.id for listed in listing if listed.standing is not Standing.UNFINISHED}
    return sorted(id_ for id_ in own if id_ not in shown)


def maintain(
    backend: Backend,
    now: AttemptId,
    rules: retention.Rules,
    *,
    protected: Collection[AttemptId] = (),
    own: Collection[AttemptId] = (),
    spare_unfinished: bool = False,
) -> list[AttemptId]:
    """Apply retention and sweep after the commit of `now`; returns what was deleted, the last one perhaps in part.

    `spare_unfinished`: somebody may still be writing what an earlier worker group has begun, so it is no garbage yet.

    `own`: what this worker group has committed and not deleted. A listing without one of them is an old one, or that
    of another place: nothing is deleted by it. Trouble is logged: the next commit tries again. A writer that was
    superseded deletes nothing, because its view of what may go is not that of the one that goes on with the run.
    """
    deleted: list[AttemptId] = []
    try:
        listing = list(Catalog(backend).listing())
        # After the listing: in one that shows a later generation's checkpoints, what that resumed from may look old.
        generations.refuse_if_superseded(backend, now.generation)
        if _is_shrunken(backend, listing, own):
            return deleted
        useless = [] if spare_unfinished else garbage(listing, now)
        for going in [*old(listing, rules, protected=protected), *useless]:
            deleted.append(going)
            delete_attempt(backend, going)
        uploads.clear(backend, now)
    except StorageError as error:
        _log.warning("could not tidy %s: %s", backend.url, error)
    return deleted


def give_up(
    backend: Backend, now: AttemptId, *, own: Collection[AttemptId] = (), spare_unfinished: bool = False
) -> None:
    """Reclaim the space of a save that failed, and of those before it. As far as the storage, in trouble, lets us.

    `own` and `spare_unfinished` as for `maintain`.
    """
    try:
        delete_attempt(backend, now)
        if spare_unfinished:
            return
        listing = list(Catalog(backend).listing())
        if _is_shrunken(backend, listing, own):
            return
        for left in garbage(listing, now):
            delete_attempt(backend, left)
    except StorageError as error:
        _log.warning("could not clear what the failed save of step %d left at %s: %s", now.step, backend.url, error)


def _is_shrunken(backend: Backend, listing: Collection[Listed], own: Collection[AttemptId]) -> bool:
    lost = missing(listing, own)
    if lost:
        names = ", ".join(id_.name for id_ in lost)
        _log.warning(
            "nothing is deleted at %s: its listing does not show %s, committed by this run", backend.url, names
        )
    return bool(lost)
