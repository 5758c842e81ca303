"""Where a checkpoint may come from: the memory of the hosts, or the storage. One walk through both, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...storage import generations
from ...storage.backends.base import Backend
from ...storage.catalog import Catalog, Listed, Standing
from ...storage.manifest import Manifest
from ..notices import say
from .candidate import Candidate, Stored
from .collective import Circle
from .lead import from_rank_zero
from .remembering import Choice, Kept, Offer, Remembered, choices, exchange_offers


class Candidates:
    """All candidates, newest first, each known to all ranks when it is asked for. Memory goes before storage.

    Rank 0 alone asks the storage, and looks at its checkpoints one by one: most resumes need only the first.
    """

    def __init__(self, backend: Backend, circle: Circle, run: str, remembered: Sequence[Remembered]) -> None:
        """A collective."""
        self._backend = backend
        self._circle = circle
        self._run = run
        self._remembered = remembered
        self._offers = exchange_offers(remembered, circle)
        self._walk: _Walk | None = None

    def next(self) -> Candidate | None:
        """A collective. Raises as `from_rank_zero` does."""
        answer = from_rank_zero(self._circle, self._pick)
        if "kept" in answer:
            return Kept(Choice.model_validate_json(answer["kept"]), self._remembered, committed=answer["committed"])
        if "stored" in answer:
            manifest = Manifest.model_validate_json(answer["stored"])
            return Stored(self._backend, manifest, self._circle.size)
        return None

    def pass_over(self, candidate: Candidate, reason: str) -> None:
        if self._walk is not None:
            self._walk.pass_over(candidate.id.step, reason, stored=not candidate.from_memory)

    def end(self) -> None:
        """Say so when there were some, and none could be used."""
        if self._walk is not None and self._walk.passed_over:
            say(f"none of the {self._walk.passed_over} checkpoints at {self._backend.url} can be used: starting over")

    def _pick(self) -> dict[str, Any]:
        if self._walk is None:
            self._walk = _Walk(self._backend, self._run, self._offers)
        return self._walk.next()


class _Walk:
    """Rank 0's way through what there is."""

    def __init__(self, backend: Backend, run: str, offers: Sequence[Sequence[Offer]]) -> None:
        self._listing = Catalog(backend).candidates()
        self._ahead: Listed | None = None
        self._kept: list[Choice] = []
        if any(offers):
            newest = max(generations.read_all(backend), default=0)
            self._kept = choices(offers, run=run, generation=newest)
        self.passed_over = 0

    def next(self) -> dict[str, Any]:
        """As the other ranks are told of it; empty when nothing is left."""
        while (listed := self._ahead or next(self._listing, None)) or self._kept:
            if self._kept and (listed is None or listed.id <= self._kept[0].id):
                self._ahead = listed
                kept = self._kept.pop(0)
                return {"kept": kept.model_dump_json(), "committed": _is_commit_of(kept, listed)}
            self._ahead = None
            assert listed is not None
            if listed.standing is Standing.COMMITTED and listed.manifest is not None:
                return {"stored": listed.manifest.model_dump_json()}
            self.pass_over(listed.id.step, listed.reason)
        return {}

    def pass_over(self, step: int, reason: str, *, stored: bool = True) -> None:
        self.passed_over += stored
        what = f"checkpoint of step {step}" if stored else f"what the hosts' memory has of step {step}"
        say(f"{what} is not used: {reason}. Trying the one before it")


def _is_commit_of(kept: Choice, listed: Listed | None) -> bool:
    """What is in memory has become durable, too."""
    return (
        listed is not None
        and listed.standing is Standing.COMMITTED
        and listed.manifest is not None
        and (listed.id, listed.manifest.token) == (kept.id, kept.token)
    )
