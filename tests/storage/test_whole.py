"""A checkpoint as whole tensors: the bytes that went in, in stretches of bounded length, and no byte unproven."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from relight.storage import whole
from relight.storage.arrangement import plan
from relight.storage.backends.local import LocalBackend
from relight.storage.boxes import byte_runs
from relight.storage.catalog import Catalog
from relight.storage.errors import Damaged
from relight.storage.persist import persist
from relight.storage.shards import Piece
from relight.storage.whole import Whole
from relight.tests.storage.checkpoints import attempt_id, job

ROWS = Piece.whole("model/rows", "F32", (1000, 31))
EMPTY = Piece.whole("model/empty", "F32", (0, 7))
COLUMNS = Piece.whole("model/columns", "U8", (64, 64))
SCALAR = Piece.whole("optimizer/state/rows/step", "I64", ())


def _cut(piece: Piece, dim: int, at: int) -> tuple[Piece, Piece]:
    def part(start: int, length: int) -> Piece:
        shape = tuple(length if each == dim else size for each, size in enumerate(piece.shape))
        offset = tuple(start if each == dim else 0 for each in range(len(piece.shape)))
        return Piece(piece.name, piece.dtype, shape, piece.global_shape, offset)

    return part(0, at), part(at, piece.shape[dim] - at)


def _save(folder: Path) -> tuple[Whole, dict[str, bytes]]:
    """Two ranks: one tensor in rows, one in columns, one empty, one on a single rank, and each rank's own."""
    contents = {piece.name: random.Random(7).randbytes(piece.size) for piece in (ROWS, COLUMNS, EMPTY, SCALAR)}
    rows, columns = _cut(ROWS, 0, 333), _cut(COLUMNS, 1, 20)
    backend = LocalBackend(folder)
    id_ = attempt_id(5)
    for rank in (1, 0):
        own = Piece.whole(f"rank-0000{rank}/rng", "U8", (16,))
        pieces = [rows[rank], columns[rank], own, *([EMPTY, SCALAR] if rank else [])]
        layout = plan(pieces, {"progress": {"step": 5}, f"rank-0000{rank}": {}})
        data = bytearray(layout.size)
        data[: len(layout.header)] = layout.header
        for placed in layout.placed:
            for source, target, length in byte_runs(placed.piece):
                content = contents.get(placed.piece.name, bytes(16))
                data[placed.start + source : placed.start + source + length] = content[target : target + length]
        outcome = persist(backend, job(id_, rank=rank, world_size=2), memoryview(data))
        assert not outcome.failed
    return Whole(backend, Catalog(backend).find().manifest), contents


def test_every_tensor_comes_back_whole_however_it_was_cut(tmp_path: Path) -> None:
    saved, contents = _save(tmp_path)
    assert {name: bytes(saved.read(name)) for name in saved.tensors} == contents
    assert {name: b"".join(saved.chunks(name)) for name in saved.tensors} == contents
    assert saved.tensors["model/rows"] == ROWS
    assert saved.state == {"progress": {"step": 5}}


def test_rows_come_in_stretches_of_bounded_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "CHUNK_BYTES", 1000)
    saved, contents = _save(tmp_path)
    stretches = [bytes(stretch) for stretch in saved.chunks("model/rows")]
    assert max(map(len, stretches)) == 1000
    assert b"".join(stretches) == contents["model/rows"]


def test_a_flipped_bit_is_named_and_not_handed_out(tmp_path: Path) -> None:
    saved, _ = _save(tmp_path)
    shard = next(tmp_path.rglob("rank-00001-of-00002.safetensors"))
    with shard.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    with pytest.raises(Damaged, match=r"rank-00001-of-00002.safetensors is damaged: the checksum of block 0"):
        [bytes(each) for name in saved.tensors for each in saved.chunks(name)]
