"""Receipts: how a rank tells, through storage alone, that its shard is durable, or that it never will be."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from . import checksum
from .manifest import Count, Hex128, Record, ShardEntry


class Receipt(Record):
    """One rank's word on one attempt. `failed` says why there is no shard; then the other fields are empty."""

    max_bytes: ClassVar[int] = 16 << 20
    """A block of 4 MiB takes 39 bytes: enough for a shard of 1.6 TiB."""

    rank: Count
    size: Count = 0
    block_bytes: Annotated[int, Field(gt=0, le=checksum.MAX_BLOCK_BYTES)] = checksum.BLOCK_BYTES
    blocks: tuple[Hex128, ...] = ()
    failed: str | None = None

    @model_validator(mode="after")
    def _blocks_cover_the_shard(self) -> Self:
        if len(self.blocks) != checksum.block_count(self.size, self.block_bytes):
            message = f"{len(self.blocks)} block checksums cannot cover {self.size} bytes"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _a_failure_vouches_for_nothing(self) -> Self:
        if self.failed is not None and self.size:
            message = "it reports a failure and a shard at once"
            raise ValueError(message)
        return self

    @property
    def entry(self) -> ShardEntry:
        """What the manifest keeps of it."""
        return ShardEntry(rank=self.rank, size=self.size, root=checksum.root(self.blocks, self.size, self.block_bytes))
