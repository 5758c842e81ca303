"""Reading every byte of a checkpoint to prove it, in bounded memory and without torch."""

from __future__ import annotations

from collections.abc import Callable

from .backends.base import Backend
from .errors import Damaged, NotFound
from .manifest import Manifest
from .reading import ShardReader


def verify(backend: Backend, manifest: Manifest, on_bytes: Callable[[int], object] = lambda _: None) -> list[Damaged]:
    """All damage in one checkpoint, each naming its file and block; empty when every byte is proven.

    `on_bytes` is told of every stretch of bytes read, for a progress bar.
    """
    damage = []
    for rank in range(manifest.world_size):
        try:
            reader = ShardReader(backend, manifest, rank)
        except Damaged as error:
            damage.append(error)
            continue
        damage.extend(_verify_blocks(reader, on_bytes) or _verify_header(reader) or _verify_size(backend, reader))
    return damage


def _verify_blocks(reader: ShardReader, on_bytes: Callable[[int], object]) -> list[Damaged]:
    damage = []
    buffer = memoryview(bytearray(reader.longest_block))
    for block in reader.blocks():
        start, end = reader.span(block)
        try:
            reader.read_block(block, buffer[: end - start])
        except Damaged as error:
            damage.append(error)
        on_bytes(end - start)
    return damage


def _verify_size(backend: Backend, reader: ShardReader) -> list[Damaged]:
    """All that should be there is: is that all?"""
    try:
        size = backend.size(reader.key)
    except NotFound:
        return [Damaged(reader.key, "it is missing")]
    return [] if size == reader.size else [Damaged(reader.key, f"it is {size} bytes long instead of {reader.size}")]


def _verify_header(reader: ShardReader) -> list[Damaged]:
    """The bytes are as they were written; were they written as a shard?"""
    try:
        reader.layout()
    except Damaged as error:
        return [error]
    return []
