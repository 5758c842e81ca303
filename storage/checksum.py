"""Block checksums, and one root over them: a flipped bit is found in its block, a whole shard is named by 16 bytes.

xxh3_128 runs at memory speed (about 15 GB/s a core), so every byte read is verified. It guards against damage, not
against a forger: whoever may write to the storage may also write a new manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import xxhash

from .backends.base import Bytes

BLOCK_BYTES = 4 << 20
"""The unit that is verified, and re-read when it fails."""

MAX_BLOCK_BYTES = 64 << 20
"""No receipt of ours has larger ones; a reader needs memory for a whole block."""


def block_spans(size: int, block_bytes: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each block of an object of `size` bytes."""
    for start in range(0, size, block_bytes):
        yield start, min(start + block_bytes, size)


def block_count(size: int, block_bytes: int) -> int:
    return -(-size // block_bytes)


def digest(data: Bytes) -> str:
    """xxh3_128 as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def hash_blocks(data: Bytes, block_bytes: int = BLOCK_BYTES) -> tuple[str, ...]:
    view = memoryview(data).cast("B")
    return tuple(digest(view[start:end]) for start, end in block_spans(len(view), block_bytes))


def root(blocks: Sequence[str], size: int, block_bytes: int) -> str:
    """One checksum that stands for all blocks, their number and their order."""
    return digest(f"{size}/{block_bytes}/{''.join(blocks)}".encode())
