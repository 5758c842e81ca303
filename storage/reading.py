"""Reading a shard so that every byte handed out has been compared with its checksum."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from . import checksum, shards
from .backends.base import Backend
from .errors import Damaged, NotFound
from .manifest import Manifest
from .receipts import Receipt
from .sealed import READS

RUN_BYTES: Final = 16 << 20
"""Read in one go: less, and a disk or an object store is asked too often; more, and the threads end far apart."""


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
        self.receipt = receipt
        self._block_bytes = receipt.block_bytes
        self._blocks = receipt.blocks

    def blocks(self) -> range:
        """The numbers of all blocks."""
        return range(len(self._blocks))

    @property
    def longest_block(self) -> int:
        """Bytes in the largest block: what a buffer that serves them all must have."""
        return min(self._block_bytes, self.size)

    @property
    def longest_run(self) -> int:
        """Bytes in the largest group of blocks that is read in one go: see `runs`."""
        return min(max(RUN_BYTES // self._block_bytes, 1) * self._block_bytes, self.size)

    def span(self, block: int) -> tuple[int, int]:
        """The byte range [start, end) of a block."""
        start = block * self._block_bytes
        return start, min(start + self._block_bytes, self.size)

    def read_block(self, block: int, buffer: memoryview) -> None:
        """Read one block into `buffer` (exactly its length) and prove it; what fails is read again before it counts."""
        self.read_run(range(block, block + 1), buffer)

    @property
    def block_bytes(self) -> int:
        """Length of every block but the last."""
        return self._block_bytes

    def read_into(self, buffer: memoryview, *, threads: int = 1, blocks: range | None = None) -> None:
        """Read and prove these blocks (all, unless said) into `buffer`, which is as long as the shard, at their places.

        Straight from the backend, by several threads; past the page cache where `buffer` starts on a page. What it
        was to fill holds nothing of use when this raises.
        """
        self._read_runs(self.runs(blocks), buffer, 0, threads)

    def read_blocks(self, blocks: range, buffer: memoryview, *, threads: int = 1) -> None:
        """The same into a buffer that has room for these blocks alone."""
        self._read_runs(self.runs(blocks), buffer, self.span(blocks[0])[0] if blocks else 0, threads)

    def runs(self, blocks: range | None = None) -> list[range]:
        """Blocks (all, unless said) in groups that are read in one go: RUN_BYTES, or one that is longer."""
        together = max(1, RUN_BYTES // self._block_bytes)
        chosen = self.blocks() if blocks is None else blocks
        return [chosen[first : first + together] for first in range(0, len(chosen), together)]

    def _read_runs(self, runs: list[range], buffer: memoryview, origin: int, threads: int) -> None:
        over = threading.Event()

        def read(run: range) -> None:
            if over.is_set():  # It cannot be whole any more, or nobody wants it.
                return
            try:
                self.read_run(run, buffer[self.span(run[0])[0] - origin : self.span(run[-1])[1] - origin])
            except BaseException:
                over.set()
                raise

        with ThreadPoolExecutor(threads) as pool:
            try:
                for _ in pool.map(read, runs):
                    pass
            finally:
                over.set()

    def read_run(self, run: range, buffer: memoryview) -> None:
        """Read blocks that lie side by side in one go, and each that is not right again: it may suffer on the way."""
        origin = self.span(run[0])[0]
        got = self._fetch(origin, buffer)
        for block in run:
            start, end = self.span(block)
            piece = buffer[start - origin : end - origin]
            flaw = self._flaw(block, piece, got - (start - origin))
            for _ in range(READS - 1):
                if flaw:
                    flaw = self._flaw(block, piece, self._fetch(start, piece))
            if flaw:
                raise Damaged(self.key, flaw)

    def _fetch(self, start: int, buffer: memoryview) -> int:
        try:
            return self._backend.read_into(self.key, start, buffer)
        except NotFound:
            raise Damaged(self.key, "it is missing") from None

    def _flaw(self, block: int, buffer: memoryview, got: int) -> str:
        """What is wrong with a block of which `got` bytes (or more) came; empty when it is proven."""
        start, end = self.span(block)
        if got < end - start:
            return f"block {block} (bytes {start} to {end}) is cut short after {max(got, 0)} bytes"
        if checksum.digest(buffer) != self._blocks[block]:
            return f"the checksum of block {block} (bytes {start} to {end}) does not match"
        return ""

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
