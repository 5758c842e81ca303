"""Reading every byte of a checkpoint to prove it, several stretches at a time, in bounded memory and without torch."""

from __future__ import annotations

import mmap
import queue
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from .ahead import in_order
from .backends.base import Backend
from .errors import Damaged, NotFound
from .manifest import Manifest
from .reading import RUN_BYTES, ShardReader

THREADS: Final = 4
"""Hashing is ten times as fast as a disk, and a store far away is slow for each of those who ask."""


def verify(backend: Backend, manifest: Manifest, on_bytes: Callable[[int], object] = lambda _: None) -> list[Damaged]:
    """All damage in one checkpoint, each naming its file and block; empty when every byte is proven.

    `on_bytes` is told of every stretch of bytes read, for a progress bar, by several threads. Memory: THREADS times
    RUN_BYTES, or the longest block where that is more.
    """
    found: dict[int, list[Damaged]] = defaultdict(list)
    readers: dict[int, ShardReader] = {}
    with _threads(manifest) as pool:
        for rank, opened in in_order(pool, lambda rank: (rank, _open(backend, manifest, rank)), _ranks(manifest)):
            if isinstance(opened, Damaged):
                found[rank].append(opened)
            else:
                readers[rank] = opened
        prove = _Prover(max((reader.longest_run for reader in readers.values()), default=0), on_bytes)
        runs = ((rank, reader, run) for rank, reader in readers.items() for run in reader.runs())
        for rank, damage in in_order(pool, lambda each: (each[0], prove(*each[1:])), runs):
            found[rank] += damage
        sound = [rank for rank in readers if not found[rank]]
        for rank, damage in in_order(pool, lambda rank: (rank, _verify_whole(backend, readers[rank])), sound):
            found[rank] += damage
    return [damage for rank in sorted(found) for damage in found[rank]]


def _ranks(manifest: Manifest) -> range:
    return range(manifest.world_size)


@contextmanager
def _threads(manifest: Manifest) -> Iterator[ThreadPoolExecutor | None]:
    """None for what is done in one go: to start threads takes longer."""
    if sum(-(-shard.size // RUN_BYTES) for shard in manifest.shards) <= 1:
        yield None
        return
    with ThreadPoolExecutor(THREADS, thread_name_prefix="relight-verify") as pool:
        yield pool


def _open(backend: Backend, manifest: Manifest, rank: int) -> ShardReader | Damaged:
    try:
        return ShardReader(backend, manifest, rank)
    except Damaged as error:
        return error


class _Prover:
    """Reads and proves stretches, each thread into one of a few buffers; they start on a page, for direct reads."""

    def __init__(self, longest: int, on_bytes: Callable[[int], object]) -> None:
        self._longest = longest
        self._on_bytes = on_bytes
        self._spare: queue.SimpleQueue[memoryview] = queue.SimpleQueue()

    def __call__(self, reader: ShardReader, run: range) -> list[Damaged]:
        length = reader.span(run[-1])[1] - reader.span(run[0])[0]
        try:
            buffer = self._spare.get_nowait()
        except queue.Empty:
            buffer = memoryview(mmap.mmap(-1, self._longest))
        try:
            reader.read_run(run, buffer[:length])
        except Damaged:
            return _each(reader, run, buffer)
        else:
            return []
        finally:
            self._spare.put(buffer)
            self._on_bytes(length)


def _each(reader: ShardReader, run: range, buffer: memoryview) -> list[Damaged]:
    """Which of the blocks is it?"""
    damage = []
    for block in run:
        start, end = reader.span(block)
        try:
            reader.read_block(block, buffer[: end - start])
        except Damaged as error:
            damage.append(error)
    return damage


def _verify_whole(backend: Backend, reader: ShardReader) -> list[Damaged]:
    """The bytes are as they were written. Were they written as a shard? All that should be there is: is that all?"""
    try:
        reader.layout()
        size = backend.size(reader.key)
    except NotFound:
        return [Damaged(reader.key, "it is missing")]
    except Damaged as error:
        return [error]
    return [] if size == reader.size else [Damaged(reader.key, f"it is {size} bytes long instead of {reader.size}")]
