"""Every byte that is handed out was compared with its checksum; what does not match is named by file and block."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.storage.arrangement import plan
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.errors import Damaged
from relight.storage.layout import AttemptId
from relight.storage.persist import persist
from relight.storage.reading import ShardReader
from relight.storage.shards import Piece
from relight.storage.verify import verify
from relight.tests.storage.checkpoints import attempt_id, job, save


def damaged_by(folder: Path, change: str) -> list[str]:
    backend = LocalBackend(folder)
    manifest = save(backend, attempt_id(10))
    shard_file = folder / manifest.shard_key(1)
    if change == "shard missing":
        shard_file.unlink()
    elif change == "shard cut":
        shard_file.write_bytes(shard_file.read_bytes()[:100])
    elif change == "shard longer":
        shard_file.write_bytes(shard_file.read_bytes() + b"x")
    elif change == "shards swapped":
        other = folder / manifest.shard_key(0)
        one, two = shard_file.read_bytes(), other.read_bytes()
        shard_file.write_bytes(two)
        other.write_bytes(one)
    elif change == "receipt missing":
        (folder / manifest.id.receipt_key(1)).unlink()
    else:
        receipts = [folder / manifest.id.receipt_key(rank) for rank in (0, 1)]
        receipts[1].write_bytes(receipts[0].read_bytes())
    return [str(error) for error in verify(backend, manifest)]


SHARD = f"{attempt_id(10).folder}rank-0000{{}}-of-00002.safetensors is damaged: "
RECEIPT = f"{attempt_id(10).folder}receipts/rank-00001.json is damaged: "


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("shard missing", [f"{SHARD.format(1)}it is missing"]),
        ("shard cut", [f"{SHARD.format(1)}block 0 (bytes 0 to 4184) is cut short after 100 bytes"]),
        ("shard longer", [f"{SHARD.format(1)}it is 4185 bytes long instead of 4184"]),
        (
            "shards swapped",
            [f"{SHARD.format(rank)}the checksum of block 0 (bytes 0 to 4184) does not match" for rank in (0, 1)],
        ),
        ("receipt missing", [f"{RECEIPT}it is missing"]),
        ("receipts swapped", [f"{RECEIPT}it does not match the manifest"]),
    ],
)
def test_verification_names_file_and_block(tmp_path: Path, change: str, found: list[str]) -> None:
    assert damaged_by(tmp_path, change) == found


def large(folder: Path, block_bytes: int, id_: AttemptId) -> tuple[LocalBackend, memoryview]:
    """A checkpoint of one shard of 10 blocks and a bit."""
    backend = LocalBackend(folder)
    layout = plan([Piece.whole("w", "U8", (10 * block_bytes,))], {})
    data = memoryview(bytearray(layout.header.ljust(layout.size, b"\x55")))
    assert persist(backend, job(id_, world_size=1), data).committed
    return backend, data


def test_every_damaged_block_of_a_large_shard_is_named_and_every_byte_counted(tmp_path: Path) -> None:
    backend, data = large(tmp_path, 4 << 20, attempt_id(10))
    manifest = Catalog(backend).find().manifest
    seen: list[int] = []
    assert verify(backend, manifest, seen.append) == []
    assert sum(seen) == len(data) == manifest.size
    with (tmp_path / manifest.shard_key(0)).open("r+b") as file:
        for position in (0, (12 << 20) + 5, len(data) - 1):
            file.seek(position)
            file.write(b"\xee")
    reasons = [error.reason for error in verify(backend, manifest)]
    assert reasons == [
        "the checksum of block 0 (bytes 0 to 4194304) does not match",
        "the checksum of block 3 (bytes 12582912 to 16777216) does not match",
        f"the checksum of block 10 (bytes 41943040 to {len(data)}) does not match",
    ]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_shard_is_read_whole_and_in_ranges_or_not_at_all(tmp_path: Path, threads: int) -> None:
    backend, data = large(tmp_path, 4 << 20, attempt_id(10))
    manifest = Catalog(backend).find().manifest
    reader = ShardReader(backend, manifest, 0)
    buffer = memoryview(bytearray(reader.size))
    reader.read_into(buffer, threads=threads)
    assert buffer == data
    for start, end in (
        (0, 0),
        (0, 8),
        (5, 5),
        ((4 << 20) - 1, (8 << 20) + 1),
        (len(data) - 1, len(data)),
        (0, len(data)),
    ):
        assert reader.read_range(start, end) == data[start:end]
    with (tmp_path / manifest.shard_key(0)).open("r+b") as file:
        file.seek(30 << 20)
        file.write(b"\xee")
    with pytest.raises(Damaged, match="block 7"):
        reader.read_into(buffer, threads=threads)
    with pytest.raises(Damaged, match="block 7"):
        reader.read_range(30 << 20, (30 << 20) + 1)
    assert reader.read_range(0, 28 << 20) == data[: 28 << 20]


def test_bytes_that_are_proven_but_are_no_shard_are_damage(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    persist(backend, job(attempt_id(10), world_size=1), memoryview(b"\2\0\0\0\0\0\0\0{}"))
    (damage,) = verify(backend, Catalog(backend).find().manifest)
    assert damage.reason == "its header is not one of Relight's (KeyError: '__metadata__')"
