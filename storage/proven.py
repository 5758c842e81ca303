"""Any bytes of a shard, each proven, where tensors are read one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from .checksum import block_count
from .reading import ShardReader

_READ_THREADS: Final = 4


class ProvenBytes:
    """A shard's bytes. The block read last is kept: the tensor that begins in it is mostly asked for next."""

    def __init__(self, reader: ShardReader) -> None:
        self.reader = reader
        self._kept: tuple[int, memoryview] | None = None

    def read(self, start: int, end: int) -> bytearray:
        """The bytes [start, end). Raises Damaged."""
        found = bytearray(end - start)
        blocks = range(start // self.reader.block_bytes, block_count(end, self.reader.block_bytes))

        def bring(block: int) -> memoryview:
            data = self._block(block)
            low, high = self.reader.span(block)
            found[max(low, start) - start : min(high, end) - start] = data[max(low, start) - low : min(high, end) - low]
            return data if block == blocks[-1] else memoryview(b"")

        if len(blocks) > 1:
            with ThreadPoolExecutor(min(_READ_THREADS, len(blocks))) as pool:
                *_, last = pool.map(bring, blocks)
            self._kept = (blocks[-1], last)
        elif blocks:
            self._kept = (blocks[0], bring(blocks[0]))
        return found

    def _block(self, block: int) -> memoryview:
        if self._kept is not None and self._kept[0] == block:
            return self._kept[1]
        low, high = self.reader.span(block)
        data = memoryview(bytearray(high - low))
        self.reader.read_block(block, data)
        return data
