"""safetensors files and their index, as the library of that name and the Hub read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from relight.storage.shards import Piece
from relight.workers.exchange.exporting.safetensors_file import INDEX, cut, write_file, write_sharded

TENSORS = {
    "a.weight": torch.arange(12.0).reshape(3, 4),
    "b.scale": torch.tensor([1, 2, 3], dtype=torch.int8),
    "c": torch.tensor(2.5, dtype=torch.float64),
    "d.none": torch.empty(0, 3),
    "e": torch.arange(5, dtype=torch.bfloat16),
}
NAMES = {torch.float32: "F32", torch.int8: "I8", torch.float64: "F64", torch.bfloat16: "BF16"}
PIECES = {name: Piece.whole(name, NAMES[it.dtype], tuple(it.shape)) for name, it in TENSORS.items()}


def chunks(name: str) -> Iterator[memoryview]:
    data = bytes(TENSORS[name].view(-1).view(torch.uint8).numpy())
    yield memoryview(data[:5])
    yield memoryview(data[5:])


def test_a_file_is_read_by_the_library_alone_and_says_that_it_is_torchs(tmp_path: Path) -> None:
    write_file(tmp_path / "out.safetensors", PIECES, {"format": "pt"}, chunks)
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_files_with_an_index_hold_each_tensor_once(tmp_path: Path) -> None:
    write_sharded(tmp_path, PIECES, {"format": "pt"}, chunks, shard_bytes=50)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": sum(it.nbytes for it in TENSORS.values())}
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    found = {file: load_file(tmp_path / file) for file in files}
    assert sorted(name for tensors in found.values() for name in tensors) == sorted(TENSORS)
    for name, file in index["weight_map"].items():
        assert torch.equal(found[file][name], TENSORS[name])


def test_what_fits_one_file_has_no_index(tmp_path: Path) -> None:
    write_sharded(tmp_path, PIECES, {"format": "pt"}, chunks, shard_bytes=1000)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([4, 4, 4], 8, [["0", "1"], ["2"]]),
        ([9, 1], 8, [["0"], ["1"]]),
        ([1, 9, 1], 8, [["0"], ["1"], ["2"]]),
        ([0, 0], 1, [["0", "1"]]),
        ([8], 8, [["0"]]),
        ([], 8, [[]]),
    ],
)
def test_files_are_filled_in_order_and_a_large_tensor_has_its_own(
    sizes: list[int], limit: int, expected: list[list[str]]
) -> None:
    pieces = {str(number): Piece.whole(str(number), "U8", (size,)) for number, size in enumerate(sizes)}
    assert cut(pieces, limit) == expected
