"""A checkpoint that may be gone on from, and how its bytes are brought: from storage here, from memory elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ...storage.backends.base import Backend
from ...storage.checksum import block_count
from ...storage.errors import StorageUnavailable
from ...storage.layout import AttemptId
from ...storage.manifest import Manifest
from ...storage.reading import ShardReader
from ...storage.shards import header_bytes
from ...storage.shared_memory import SharedMemory
from .blank import Blank

_READ_THREADS = 4


@dataclass(frozen=True, slots=True)
class Start:
    """A shard's first blocks, proven, as its owner has them: `memory` is as long as the shard, `blocks` are there."""

    header: bytes
    block_bytes: int
    blocks: int
    memory: SharedMemory


class Candidate(Protocol):
    """A checkpoint to go on from, if its bytes can be proven. All ranks hold the same facts of it."""

    @property
    def id(self) -> AttemptId: ...

    @property
    def owners(self) -> Sequence[int]:
        """By number of the shard: the rank that opens it."""

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

    def begin(self, number: int) -> Start:
        """Open a shard that this rank owns.

        Raises:
            Damaged: the bytes are not what was written.
            StorageError: nothing is known of the bytes.
        """

    def read(self, number: int, blocks: range, buffer: memoryview) -> None:
        """Read blocks of any shard, every byte proven, into `buffer`, at their places. Raises as `begin`."""


class Stored:
    """A committed checkpoint as a candidate. Shard n is opened by rank n, or n modulo the number of ranks."""

    from_memory = False

    def __init__(self, backend: Backend, manifest: Manifest, ranks: int) -> None:
        self.id = manifest.id
        self.owners = tuple(number % ranks for number in range(manifest.world_size))
        self.sizes = tuple(entry.size for entry in manifest.shards)
        self.resumed_from = manifest.id
        self._backend = backend
        self._manifest = manifest
        self._readers: dict[int, ShardReader] = {}

    def name_of(self, number: int) -> str:
        return self._manifest.shard_key(number)

    def begin(self, number: int) -> Start:
        reader = self._reader(number)
        try:
            memory = Blank(reader.size)
        except OSError as error:
            message = f"there is no memory to read {reader.key} ({reader.size} bytes) into: {error.strerror}"
            raise StorageUnavailable(message) from error
        try:
            reader.read_into(memory.view, blocks=reader.blocks()[:1])
            length = header_bytes(bytes(memory.view[:8]), reader.size, reader.key)
            count = max(1, block_count(length, reader.block_bytes))
            reader.read_into(memory.view, blocks=reader.blocks()[1:count])
        except BaseException:
            memory.close()
            raise
        return Start(bytes(memory.view[:length]), reader.block_bytes, count, memory)

    def read(self, number: int, blocks: range, buffer: memoryview) -> None:
        self._reader(number).read_into(buffer, threads=_READ_THREADS, blocks=blocks)

    def _reader(self, number: int) -> ShardReader:
        if number not in self._readers:
            self._readers[number] = ShardReader(self._backend, self._manifest, number)
        return self._readers[number]
