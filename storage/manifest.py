"""The manifest: the one file whose presence makes a checkpoint exist."""

from __future__ import annotations

import contextlib
import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from .backends.base import Backend
from .errors import Damaged, StorageError
from .layout import AttemptId, shard_name
from .sealed import READS, is_bulky, parse_record, seal


def _spelled_out(value: Any) -> Any:
    """JSON has no infinities; a loss may be one."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


Hex128 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[float | Literal["nan", "inf", "-inf"], BeforeValidator(_spelled_out)]


class Record(BaseModel):
    """Common rules of the small documents in storage: frozen, and nothing in them that we do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_bytes: ClassVar[int] = 64 << 10
    """None of ours is longer, and no more is read of what is: as Python's objects JSON takes many times its size."""

    def to_bytes(self) -> bytes:
        """Raises StorageError for a record that no reader would accept."""
        raw = seal(self.model_dump(mode="json"))
        if trouble := self._trouble(raw):
            message = f"no reader would take the {type(self).__name__.lower()} of this checkpoint: it {trouble}. "
            raise StorageError(message + "Keep fewer metrics, or spread the checkpoint over more ranks")
        return raw

    @classmethod
    def from_bytes(cls, raw: bytes, key: str) -> Self:
        """Raises `Damaged` unless `raw` is exactly what `to_bytes` wrote and every field fits."""
        if trouble := cls._trouble(raw):
            raise Damaged(key, f"it {trouble}, which no {cls.__name__.lower()} of ours is")
        return parse_record(cls, raw, key)

    @classmethod
    def _trouble(cls, raw: bytes) -> str:
        """Why these bytes are not worth parsing, in constant memory; empty when they are."""
        if len(raw) > cls.max_bytes:
            return f"is longer than {cls.max_bytes} bytes"
        # A rank's entry in a manifest, with one pair of braces and three commas, is 88 bytes at least.
        if is_bulky(raw, containers=64 + len(raw) // 64, values=4096 + len(raw) // 20):
            return "is denser than one list or object in 64 bytes and one value in 20"
        return ""

    @classmethod
    def load(cls, backend: Backend, key: str) -> Self:
        """The record under `key`; raises `NotFound` or `Damaged`."""
        for _ in range(READS - 1):
            with contextlib.suppress(Damaged):
                return cls.from_bytes(backend.read(key, 0, cls.max_bytes + 1), key)
        return cls.from_bytes(backend.read(key, 0, cls.max_bytes + 1), key)


class Progress(Record):
    """Where training stood. `epoch` counts from 0; `samples` are global samples consumed in that epoch."""

    epoch: Count
    step: Count
    samples: Count
    loss: Number | None = None
    metrics: dict[str, Number] = {}


class ShardEntry(Record):
    """One rank's file: its size in bytes and the root of its block checksums (the blocks are in the receipt)."""

    rank: Count
    size: Count
    root: Hex128


class Manifest(Record):
    """What was committed. `token` is the writer's: it tells our own commit from another's after a lost reply."""

    max_bytes: ClassVar[int] = 8 << 20
    """A rank's entry takes about 100 bytes: enough for 80,000 ranks."""

    format: Literal["relight-checkpoint/1"] = "relight-checkpoint/1"
    run: str
    step: Count
    generation: Count
    attempt: Count
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{6}$")]
    token: str
    saved_at: str
    """UTC, for people. Retention by time compares them with each other; nothing else is decided by it."""
    progress: Progress
    shards: tuple[ShardEntry, ...]

    @model_validator(mode="after")
    def _every_rank_once(self) -> Self:
        if not self.shards or [entry.rank for entry in self.shards] != list(range(len(self.shards))):
            message = "shards must list the ranks 0, 1, 2, ... once each"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        _ = self.id  # Raises ValueError for a number that no name of ours has room for.
        return self

    @property
    def id(self) -> AttemptId:
        return AttemptId(self.step, self.generation, self.attempt, self.nonce)

    @property
    def world_size(self) -> int:
        return len(self.shards)

    @property
    def size(self) -> int:
        """Bytes in all shards."""
        return sum(entry.size for entry in self.shards)

    def shard_key(self, rank: int) -> str:
        return self.id.folder + shard_name(rank, self.world_size)
