"""Where a checkpoint may come from: the memory of the hosts, or the storage. One walk through both, newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...storage import generations
from ...storage.backends.base import Backend
from ...storage.catalog import Catalog, Listed, Standing
from ...storage.errors import StorageUnavailable
from ...storage.layout import AttemptId
from ...storage.manifest import Manifest
from ...storage.reading import ShardReader
from ...storage.shared_memory import SharedMemory
from ..notices import say
from .collective import Circle
from .lead import from_rank_zero
from .remembering import Choice, Kept, Offer, Remembered, choices, exchange_offers

_READ_THREADS = 4

Allocate = Callable[[int], SharedMemory]
"""Makes the memory that a shard of so many bytes is read into. Raises OSError."""


class Candidate(Protocol):
    """A checkpoint to go on from, if its bytes can be proven. All ranks hold the same facts of it."""

    @property
    def id(self) -> AttemptId: ...

    @property
    def owners(self) -> Sequence[int]:
        """By number of the shard: the rank that brings it."""

    @property
    def sizes(self) -> Sequence[int]:
        """By number of the shard: its bytes."""

    @property
    def resumed_from(self) -> AttemptId | None:
        """The committed checkpoint that this is; None when it is in memory alone."""

    @property
    def from_memory(self) -> bool:
        """The memory is its keeper's, who closes it."""

    def name_of(self, number: int) -> str:
        """The shard, as a message names it."""

    def bring(self, number: int) -> SharedMemory:
        """A shard that this rank owns, every byte proven, at the start of the memory.

        Raises:
            Damaged: the bytes are not what was written.
            StorageError: nothing is known of the bytes.
        """


class Stored:
    """A committed checkpoint as a candidate. Shard n is read by rank n, or n modulo the number of ranks."""

    from_memory = False

    def __init__(self, backend: Backend, manifest: Manifest, ranks: int, allocate: Allocate) -> None:
        self.id = manifest.id
        self.owners = tuple(number % ranks for number in range(manifest.world_size))
        self.sizes = tuple(entry.size for entry in manifest.shards)
        self.resumed_from = manifest.id
        self._backend = backend
        self._manifest = manifest
        self._allocate = allocate

    def name_of(self, number: int) -> str:
        return self._manifest.shard_key(number)

    def bring(self, number: int) -> SharedMemory:
        reader = ShardReader(self._backend, self._manifest, number)
        try:
            memory = self._allocate(reader.size)
        except OSError as error:
            message = f"there is no memory to read {reader.key} ({reader.size} bytes) into: {error.strerror}"
            raise StorageUnavailable(message) from error
        try:
            reader.read_into(memory.view[: reader.size], threads=_READ_THREADS)
        except BaseException:
            memory.close()
            raise
        return memory


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

    def next(self, allocate: Allocate) -> Candidate | None:
        """A collective. Raises as `from_rank_zero` does."""
        answer = from_rank_zero(self._circle, self._pick)
        if "kept" in answer:
            return Kept(Choice.model_validate_json(answer["kept"]), self._remembered, committed=answer["committed"])
        if "stored" in answer:
            manifest = Manifest.model_validate_json(answer["stored"])
            return Stored(self._backend, manifest, self._circle.size, allocate)
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
