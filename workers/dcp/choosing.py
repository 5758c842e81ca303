"""Which checkpoint is loaded, on all ranks the same: the step that is asked for, or the newest that can be proven."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...storage.backends.base import Backend
from ...storage.catalog import Catalog, Standing
from ...storage.errors import Damaged, NotFound
from ...storage.layout import AttemptId
from ...storage.manifest import Manifest
from ...storage.verify import verify
from .opened import Opened

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rank would load, and what is wrong with it, if anything."""

    id: AttemptId
    damage: str = ""


def open_step(backend: Backend, step: int) -> Opened:
    """Raises Damaged when that step's newest attempt cannot be proven, NotFound with what there is instead."""
    for listed in Catalog(backend).listing():
        if listed.id.step == step and listed.standing is Standing.DAMAGED:
            raise Damaged(listed.id.manifest_key, listed.reason.removeprefix(f"{listed.id.manifest_key} is damaged: "))
        if listed.id.step == step and listed.standing is Standing.COMMITTED and listed.manifest is not None:
            return Opened(backend, listed.manifest)
    return Opened(backend, Catalog(backend).find(step).manifest)


def open_newest(backend: Backend) -> Opened:
    """The newest whose headers can be proven; that others are passed over is said. Raises NotFound."""
    damage = []
    for listed in Catalog(backend).candidates():
        try:
            if listed.standing is Standing.COMMITTED and listed.manifest is not None:
                return Opened(backend, listed.manifest)
            reason = listed.reason
        except Damaged as error:
            reason = str(error)
        if listed.standing is not Standing.FENCED:
            damage.append(reason)
            _pass_over(listed.id, reason)
    raise NotFound("; ".join([f"there is no valid checkpoint at {backend.url}", *damage]))


def agreed(backend: Backend, seen: Sequence[Seen]) -> AttemptId:
    """What all ranks load: the coordinator's answer to what each has seen. Raises NotFound.

    Mostly the same is seen by all, and is whole. Where the ranks have looked while one was committed, it is the older
    one. Where one of them has met damage, the next older is read as a whole before they are sent there.
    """
    damaged: Mapping[AttemptId, str] = {each.id: each.damage for each in seen if each.damage}
    if not damaged:
        return min(each.id for each in seen)
    for id_, reason in damaged.items():
        _pass_over(id_, reason)
    reasons = list(damaged.values())
    for checkpoint in Catalog(backend).committed():
        if checkpoint.id in damaged or checkpoint.id > min(damaged):
            continue
        flaws = verify(backend, checkpoint.manifest)
        if not flaws:
            return checkpoint.id
        reasons.append(str(flaws[0]))
        _pass_over(checkpoint.id, reasons[-1])
    raise NotFound("; ".join([f"there is no valid checkpoint at {backend.url}", *reasons]))


def open_attempt(backend: Backend, attempt: AttemptId) -> Opened:
    return Opened(backend, Manifest.load(backend, attempt.manifest_key))


def _pass_over(attempt: AttemptId, reason: str) -> None:
    _log.warning("step %d is passed over: %s", attempt.step, reason)
