"""`relight gc`: what retention and sweep would delete, deleted when that is wanted. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, cast

from ...configs.every import Every
from ...storage import generations, living, sweep, uploads
from ...storage.backends.base import Backend, KeepsUploads, Upload
from ...storage.backends.open import open_backend
from ...storage.catalog import Listed, Standing
from ...storage.choosing import Complain, catalog
from ...storage.errors import Busy, StorageError
from ...storage.layout import CHECKPOINTS, AttemptId
from ...storage.reclaiming import Going, reclaimable
from ...storage.retention import Best, Rules
from ...storage.verify import verify
from ..errors import UsageError
from .copying import Progress
from .presence import ended_generation

Facts = dict[str, Any]
T = TypeVar("T")


def rules(
    keep_last: int | None, keep_every: str | None, keep_best: str | None, pin: Sequence[int] | None
) -> Rules | None:
    """As the options spell them; None when none is given. Raises UsageError."""
    if keep_last is None and keep_every is None and keep_best is None and not pin:
        return None
    every = Every() if keep_every is None else _parsed("--keep-every", Every.parse, keep_every)
    best = None if keep_best is None else _parsed("--keep-best", _best, keep_best)
    return Rules(
        keep_last=keep_last or 1, every_steps=every.steps, every_s=every.seconds, best=best, pinned=tuple(pin or ())
    )


def _parsed(option: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        message = f"{option} {text}: {error}"
        raise UsageError(message) from None


def _best(text: str) -> Best:
    metric, _, mode = text.partition(":")
    return Best(metric=metric, mode=cast('Literal["min", "max"]', mode or "max"))


@dataclass(frozen=True, slots=True)
class _Look:
    """A run as it was when it was looked at."""

    listing: Sequence[Listed]
    known: dict[int, generations.Generation | None]
    ended: bool
    spare_unfinished: bool

    def going(self, rules: Rules | None) -> list[Going]:
        return reclaimable(self.listing, self.known, rules, ended=self.ended, spare_unfinished=self.spare_unfinished)


def collect(url: str, rules: Rules | None, *, delete: bool, complain: Complain, progress: Progress) -> Facts:
    """What may go, with sizes and reasons; gone, with `delete`. Without rules no committed checkpoint goes.

    Before one does, a newer one is read and proven: the newest valid checkpoint never goes.

    Raises:
        NotFound: there is no run.
        Busy: a launcher began meanwhile.
    """
    backend = open_backend(url)
    look = _look(backend)
    going = look.going(rules)
    if delete and any(_is_committed(look.listing, each.id) for each in going):
        look = replace(look, listing=list(_proven(backend, look.listing, complain, progress)))
        newest = next((each.id for each in look.listing if each.standing is Standing.COMMITTED), None)
        going = [each for each in look.going(rules) if each.id != newest]
    items = [_facts(backend, each) for each in going]
    dangling = _dangling(backend, max(look.known, default=0), complain)
    if delete:
        _delete(backend, going, dangling, max(look.known, default=0))
    return {
        "url": backend.url,
        "deleted": delete,
        "bytes": sum(item["bytes"] for item in items),
        "items": items,
        "unfinished_uploads": len(dangling),
    }


def _look(backend: Backend) -> _Look:
    there = catalog(backend)
    # Before the listing: what a launcher that begins meanwhile writes is of a later generation than all that is known.
    known = generations.read_all(backend)
    ended = ended_generation(backend, time.time()) == max(known, default=0)
    return _Look(list(there.listing()), known, ended, bool(living.predecessors(backend.url)))


def _is_committed(listing: Collection[Listed], id_: AttemptId) -> bool:
    return any(each.id == id_ and each.standing is Standing.COMMITTED for each in listing)


def _proven(backend: Backend, listing: Sequence[Listed], complain: Complain, progress: Progress) -> Iterator[Listed]:
    """Newest first, as it was; those that are read until one is proven and are not are damaged."""
    is_proven = False
    for listed in listing:
        if is_proven or listed.standing is not Standing.COMMITTED or listed.manifest is None:
            yield listed
            continue
        with progress(listed.manifest.size) as advance:
            damage = verify(backend, listed.manifest, advance)
        is_proven = not damage
        if damage:
            complain(f"step {listed.id.step} does not count: {damage[0]}")
        yield replace(listed, standing=Standing.DAMAGED, reason=str(damage[0])) if damage else listed


def _facts(backend: Backend, going: Going) -> Facts:
    entries = [*backend.list(going.id.folder), *backend.list(going.id.receipts)]
    size = sum(entry.size for entry in entries)
    return {"step": going.id.step, "name": going.id.name, "bytes": size, "reason": going.why}


def _dangling(backend: Backend, newest: int, complain: Complain) -> list[Upload]:
    if not isinstance(backend, KeepsUploads):
        return []
    now = AttemptId(0, newest, 0, "000000")
    try:
        return uploads.dangling(backend.uploads(CHECKPOINTS), now, datetime.now(UTC))
    except StorageError as error:  # It takes a permission of its own, and the bucket's lifecycle rule does the same.
        complain(f"unfinished uploads are not looked at: {error}")
        return []


def _delete(backend: Backend, going: Sequence[Going], dangling: Sequence[Upload], newest: int) -> None:
    # As every writer asks: in the eyes of a launcher that began meanwhile other things may be of use.
    if max(generations.read_all(backend), default=0) != newest:
        message = f"a launcher has begun to go on with the run at {backend.url}. Nothing was deleted; look again"
        raise Busy(message)
    for each in going:
        sweep.delete_attempt(backend, each.id)
    for upload in dangling:
        assert isinstance(backend, KeepsUploads)
        backend.abort_upload(upload)
