"""The catalog: what is under a run's URL, and which of it may be resumed from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from . import generations
from .backends.base import Backend
from .errors import Damaged, NotFound
from .layout import CHECKPOINTS, AttemptId
from .manifest import Manifest


class Standing(StrEnum):
    """What an attempt has come to."""

    COMMITTED = "committed"
    UNFINISHED = "unfinished"
    """It has no manifest: it does not exist for any reader."""
    DAMAGED = "damaged"
    FENCED = "fenced"
    """A later generation resumed from an earlier step: written by a zombie, or on an abandoned branch."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One attempt. `manifest` is there when it could be read; `reason` says why it is not plainly committed."""

    id: AttemptId
    standing: Standing
    manifest: Manifest | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint whose manifest and shard sizes are right. Its bytes are proven when they are read."""

    manifest: Manifest

    @property
    def id(self) -> AttemptId:
        return self.manifest.id

    @property
    def step(self) -> int:
        return self.manifest.step


class Catalog:
    """Reads the storage anew at every call; what it returned is never assumed to still hold."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def attempts(self) -> list[AttemptId]:
        """All attempts, committed or not, newest first. Foreign names are not seen."""
        found = []
        for entry in self._backend.list(CHECKPOINTS):
            attempt = AttemptId.parse(entry.key.removeprefix(CHECKPOINTS).removesuffix("/"))
            if attempt is not None and entry.key.endswith("/"):
                found.append(attempt)
        return sorted(found, reverse=True)

    def listing(self) -> Iterator[Listed]:
        """Every attempt with its standing, newest first; each is looked at when it is asked for."""
        known = generations.read_all(self._backend)
        for attempt in self.attempts():
            yield self._inspect(attempt, known)

    def candidates(self) -> Iterator[Listed]:
        """Every attempt that has a manifest, once, newest first; then what was committed during the walk, if anything.

        A writer may commit and let go meanwhile, so that all that was there at first is gone before it could be read.
        The walk ends only when no other candidate is left: a run that has a checkpoint is never found empty.
        """
        seen: set[AttemptId] = set()
        while True:
            known = generations.read_all(self._backend)
            for attempt in self._others(seen):
                listed = self._inspect(attempt, known)
                if listed.standing is not Standing.UNFINISHED:
                    seen.add(attempt)
                    yield listed
            if not self._another(seen):
                return

    def _another(self, seen: set[AttemptId]) -> bool:
        """Is there a candidate that was not seen, or may there be?

        A checkpoint is let go only when a newer one is committed. From the oldest to the newest one of them is met,
        however fast they come and go, or the newest was begun during this look: then the second listing shows it.
        """
        others = self._others(seen)
        return any(self._has_manifest(attempt) for attempt in reversed(others)) or self._others(seen) != others

    def _others(self, seen: set[AttemptId]) -> list[AttemptId]:
        return [attempt for attempt in self.attempts() if attempt not in seen]

    def _has_manifest(self, attempt: AttemptId) -> bool:
        try:
            self._backend.size(attempt.manifest_key)
        except NotFound:
            return False
        except Damaged:
            return True  # Something is there in its place.
        return True

    def committed(self) -> Iterator[Checkpoint]:
        """What may be resumed from, best first; and what came to be so during the walk."""
        for listed in self.candidates():
            if listed.standing is Standing.COMMITTED and listed.manifest is not None:
                yield Checkpoint(listed.manifest)

    def find(self, step: int | None = None) -> Checkpoint:
        """The newest committed checkpoint, or the newest of `step`; raises `NotFound` with what there is instead."""
        steps = []
        for checkpoint in self.committed():
            if step is None or checkpoint.step == step:
                return checkpoint
            steps.append(checkpoint.step)
        if step is None:
            message = f"there is no committed checkpoint at {self._backend.url}"
        else:
            there = ", ".join(map(str, sorted(set(steps)))) or "none"
            message = f"there is no committed checkpoint of step {step} at {self._backend.url} (there are: {there})"
        raise NotFound(message)

    def _inspect(self, attempt: AttemptId, known: dict[int, generations.Generation | None]) -> Listed:
        try:
            manifest = self._manifest(attempt)
        except NotFound:
            return Listed(attempt, Standing.UNFINISHED, reason="it has no manifest")
        except Damaged as error:
            return Listed(attempt, Standing.DAMAGED, reason=str(error))
        by = generations.fenced(attempt.step, attempt.generation, known)
        if by is not None:
            return Listed(attempt, Standing.FENCED, manifest, f"generation {by} resumed from an earlier step")
        reason = self._wrong_sizes(manifest)
        if reason:
            return Listed(attempt, Standing.DAMAGED, manifest, reason)
        return Listed(attempt, Standing.COMMITTED, manifest)

    def _manifest(self, attempt: AttemptId) -> Manifest:
        key = attempt.manifest_key
        manifest = Manifest.load(self._backend, key)
        if manifest.id != attempt:
            raise Damaged(key, f"it belongs to {manifest.id.name}")
        return manifest

    def _wrong_sizes(self, manifest: Manifest) -> str:
        sizes = {entry.key: entry.size for entry in self._backend.list(manifest.id.folder)}
        if manifest.id.receipts not in sizes:  # A link in its place is no folder: nothing outside is ever read.
            return f"{manifest.id.receipts} is missing"
        for shard in manifest.shards:
            key = manifest.shard_key(shard.rank)
            if key not in sizes:
                return f"{key} is missing"
            if sizes[key] != shard.size:
                return f"{key} is {sizes[key]} bytes long instead of {shard.size}"
        return ""
