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

    def committed(self) -> Iterator[Checkpoint]:
        """What may be resumed from, best first."""
        for listed in self.listing():
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
        for shard in manifest.shards:
            key = manifest.shard_key(shard.rank)
            if key not in sizes:
                return f"{key} is missing"
            if sizes[key] != shard.size:
                return f"{key} is {sizes[key]} bytes long instead of {shard.size}"
        return ""
