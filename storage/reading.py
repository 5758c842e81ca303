"""Reading a shard so that every byte handed out has been compared with its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from . import checksum, shards
from .backends.base import Backend
from .errors import Damaged, NotFound
from .manifest import Manifest
from .receipts import Receipt
from .sealed import READS


class ShardReader:
    """One shard of a committed checkpoint. Opening it reads and proves the receipt; data is proven block by block.

    Raises `Damaged` naming file, block and byte range whenever something is not what was written.
    """

    def __init__(self, backend: Backend, manifest: Manifest, rank: int) -> None:
        self._backend = backend
        self.key = manifest.shard_key(rank)
        entry = manifest.shards[rank]
        self.size = entry.size
        receipt_key = manifest.id.receipt_key(rank)
        try:
            receipt = Receipt.load(backend, receipt_key)
        except NotFound:
            raise Damaged(receipt_key, "it is missing") from None
        # The manifest vouches for the receipt, the receipt for the blocks.
        if receipt.entry != entry:
            raise Damaged(receipt_key, "it does not match the manifest")
        self._block_bytes = receipt.block_bytes
        self._blocks = receipt.blocks

    def blocks(self) -> Iterator[int]:
        """The numbers of all blocks."""
        return iter(range(len(self._blocks)))

    @property
    def longest_block(self) -> int:
        """Bytes in the largest block: what a buffer that serves them all must have."""
        return min(self._block_bytes, self.size)

    def span(self, block: int) -> tuple[int, int]:
        """The byte range [start, end) of a block."""
        start = block * self._block_bytes
        return start, min(start + self._block_bytes, self.size)

    def read_block(self, block: int, buffer: memoryview) -> None:
        """Read one block into `buffer` (exactly its length) and prove it; what fails is read again before it counts."""
        for left in reversed(range(READS)):
            try:
                self._read_block(block, buffer)
            except Damaged:
                if not left:
                    raise
            else:
                return

    def _read_block(self, block: int, buffer: memoryview) -> None:
        start, end = self.span(block)
        try:
            got = self._backend.read_into(self.key, start, buffer)
        except NotFound:
            raise Damaged(self.key, "it is missing") from None
        if got != end - start:
            raise Damaged(self.key, f"block {block} (bytes {start} to {end}) is cut short after {got} bytes")
        if checksum.digest(buffer) != self._blocks[block]:
            raise Damaged(self.key, f"the checksum of block {block} (bytes {start} to {end}) does not match")

    def read_into(self, buffer: memoryview, *, threads: int = 1) -> None:
        """Read and prove the whole shard into `buffer` (`size` bytes), several blocks at a time."""

        def read(block: int) -> None:
            start, end = self.span(block)
            self.read_block(block, buffer[start:end])

        if threads == 1:
            for block in self.blocks():
                read(block)
            return
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(read, self.blocks()):
                pass

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes [start, end), proven; whole blocks are read for it."""
        first = start // self._block_bytes
        origin = first * self._block_bytes
        buffer = memoryview(bytearray(min(-(-end // self._block_bytes) * self._block_bytes, self.size) - origin))
        for block in range(first, checksum.block_count(end, self._block_bytes)):
            low, high = self.span(block)
            self.read_block(block, buffer[low - origin : high - origin])
        return bytes(buffer[start - origin : end - origin])

    def layout(self) -> shards.ShardLayout:
        """The shard's pieces and state, from its header."""
        length = shards.header_bytes(self.read_range(0, min(8, self.size)), self.size, self.key)
        return shards.parse(self.read_range(0, length), self.size, self.key)
