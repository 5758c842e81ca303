"""Large reads take the shortest way, cached or cold, and what comes is proven, whatever happened to it on that way."""

from __future__ import annotations

import mmap
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from relight.storage.arrangement import plan
from relight.storage.backends.base import Bytes
from relight.storage.backends.local import LocalBackend
from relight.storage.backends.page_cache import cached_bytes
from relight.storage.catalog import Catalog
from relight.storage.checksum import BLOCK_BYTES
from relight.storage.commit import write_shard
from relight.storage.errors import Damaged, NotFound, StorageUnavailable
from relight.storage.persist import persist
from relight.storage.reading import ShardReader
from relight.storage.receipts import Receipt
from relight.storage.sealed import READS
from relight.storage.shards import Piece
from relight.tests.storage.checkpoints import attempt_id, job

MIB = 1 << 20
BLOCKS = 10


class Meddling(LocalBackend):
    """Counts the reads of each offset, and lets `meddle` have what came before the caller sees it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: Counter[int] = Counter()
        self.meddle: Callable[[int, memoryview, int], int] = lambda start, buffer, got: got
        self._lock = threading.Lock()

    def read_into(self, key: str, start: int, buffer: memoryview) -> int:
        with self._lock:
            self.reads[start] += 1
        return self.meddle(start, buffer, super().read_into(key, start, buffer))

    def flip(self, block: int, times: int) -> None:
        """A bit of the block is wrong in the first `times` reads of it."""
        left = [times]

        def meddle(start: int, buffer: memoryview, got: int) -> int:
            inside = block * BLOCK_BYTES + 7 - start
            if 0 <= inside < len(buffer) and left[0]:
                left[0] -= 1
                buffer[inside] ^= 1
            return got

        self.meddle = meddle


@pytest.fixture
def backend(tmp_path: Path) -> Meddling:
    """A run with one checkpoint of one shard, of 10 blocks and a bit."""
    backend = Meddling(tmp_path)
    layout = plan([Piece.whole("w", "U8", (BLOCKS * BLOCK_BYTES,))], {})
    data = memoryview(bytearray(layout.header.ljust(layout.size, b"\x55")))
    assert persist(backend, job(attempt_id(10), world_size=1), data).committed
    return backend


def opened(backend: LocalBackend) -> ShardReader:
    return ShardReader(backend, Catalog(backend).find().manifest, 0)


def pages(size: int) -> memoryview:
    """Memory that starts on a page, as an arena's does."""
    return memoryview(mmap.mmap(-1, max(size, 1)))[:size]


def shard_file(backend: LocalBackend) -> Path:
    return Path(backend.url) / Catalog(backend).find().manifest.shard_key(0)


def forget(path: Path) -> None:
    """The next read comes from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("state", ["cold", "cached"])
@pytest.mark.parametrize(("start", "length"), [(0, 0), (0, 4 * MIB), (4096, 2 * MIB), (5, 2 * MIB), (3 * MIB, 9 * MIB)])
@pytest.mark.parametrize("shift", [0, 3])
def test_any_range_is_read_into_any_memory(tmp_path: Path, state: str, start: int, length: int, shift: int) -> None:
    data = bytes(range(251)) * (4 * MIB // 251 + 1)
    (tmp_path / "key").write_bytes(data)
    if state == "cold":
        forget(tmp_path / "key")
    buffer = pages(length + shift)[shift:]
    expected = data[start : start + length]
    assert LocalBackend(tmp_path).read_into("key", start, buffer) == len(expected)
    assert buffer[: len(expected)] == expected


def from_the_device() -> int:
    """Bytes that this process has made the kernel read from disks."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["read_bytes"])


def test_a_cold_shard_is_read_past_the_cache_and_a_cached_one_from_it(backend: Meddling) -> None:
    path, reader = shard_file(backend), opened(backend)
    forget(path)
    with path.open("rb") as file:
        if cached_bytes(file.fileno(), 0, reader.size):
            pytest.skip("needs a filesystem that can forget")
        reader.read_into(pages(reader.size), threads=4)
        assert cached_bytes(file.fileno(), 0, reader.size) < reader.size // 2
    path.read_bytes()
    before = from_the_device()
    reader.read_into(pages(reader.size), threads=4)
    assert from_the_device() - before < MIB


@pytest.mark.parametrize("threads", [1, 4])
def test_blocks_side_by_side_are_read_in_one_go_and_each_byte_once(backend: Meddling, threads: int) -> None:
    reader = opened(backend)
    backend.reads.clear()
    reader.read_into(pages(reader.size), threads=threads)
    assert backend.reads == {0: 1, 16 * MIB: 1, 32 * MIB: 1}


@pytest.mark.parametrize("block", [0, 2, 5, BLOCKS])
def test_a_block_that_suffers_on_the_way_is_read_again_and_nothing_else_is(backend: Meddling, block: int) -> None:
    reader = opened(backend)
    whole = shard_file(backend).read_bytes()
    backend.flip(block, READS - 1)
    backend.reads.clear()
    buffer = pages(reader.size)
    reader.read_into(buffer, threads=4)
    assert buffer == whole
    assert backend.reads.total() == 3 + READS - 1


@pytest.mark.parametrize("block", [0, 2, 5, BLOCKS])
def test_a_block_that_is_wrong_every_time_is_named_after_3_reads(backend: Meddling, block: int) -> None:
    reader = opened(backend)
    backend.flip(block, READS)
    backend.reads.clear()
    with pytest.raises(Damaged) as damaged:
        reader.read_into(pages(reader.size), threads=4)
    start, end = reader.span(block)
    assert damaged.value.reason == f"the checksum of block {block} (bytes {start} to {end}) does not match"
    assert backend.reads.total() <= 3 + READS - 1


def test_a_shard_that_was_cut_is_named_with_what_is_left_of_the_block(backend: Meddling) -> None:
    reader = opened(backend)
    os.truncate(shard_file(backend), 5 * BLOCK_BYTES + 100)
    with pytest.raises(Damaged) as damaged:
        reader.read_into(pages(reader.size), threads=1)
    assert damaged.value.reason == "block 5 (bytes 20971520 to 25165824) is cut short after 100 bytes"


def test_a_shard_that_is_gone_is_damage(backend: Meddling) -> None:
    reader = opened(backend)
    shard_file(backend).unlink()
    with pytest.raises(Damaged) as damaged:
        reader.read_into(pages(reader.size), threads=4)
    assert damaged.value.reason == "it is missing"


def test_a_store_that_cannot_be_read_is_not_asked_for_the_rest(backend: Meddling) -> None:
    def fails(start: int, buffer: memoryview, got: int) -> int:
        raise StorageUnavailable("no answer")

    reader = opened(backend)
    backend.meddle = fails
    backend.reads.clear()
    with pytest.raises(StorageUnavailable):
        reader.read_into(pages(reader.size), threads=1)
    assert backend.reads.total() == 1


class Watched(LocalBackend):
    """`before` is called with the key before anything is written."""

    before: Callable[[str], None]

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        self.before(key)
        super().put(key, data, overwrite=overwrite)


def test_a_shard_is_hashed_while_it_is_written(tmp_path: Path) -> None:
    backend, hashed, keys = Watched(tmp_path), threading.Event(), []

    def before(key: str) -> None:
        keys.append(key)
        assert hashed.wait(10), "the hashes were to come while the shard is written"

    backend.before = before
    receipt = write_shard(backend, job(attempt_id(10)), bytes(5 * MIB), on_hashed=lambda _: hashed.set())
    assert keys == [attempt_id(10).shard_key(0, 2), attempt_id(10).receipt_key(0)]
    assert len(receipt.blocks) == 2


def test_a_shard_that_could_not_be_written_has_no_receipt_though_it_was_hashed(tmp_path: Path) -> None:
    backend = Watched(tmp_path)
    told: list[Receipt] = []

    def before(key: str) -> None:
        raise StorageUnavailable("full")

    backend.before = before
    with pytest.raises(StorageUnavailable):
        write_shard(backend, job(attempt_id(10)), bytes(5 * MIB), on_hashed=told.append)
    assert len(told) == 1
    with pytest.raises(NotFound):
        backend.size(attempt_id(10).receipt_key(0))
