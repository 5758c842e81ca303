"""The zip that torch.load reads: streamed, with right checksums, aligned so that it can be mapped."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from relight.storage.shards import Piece
from relight.tests.workers.exchange.exporting.saving import load
from relight.workers.checkpoint.dtypes import DTYPES, NAMES
from relight.workers.exchange.exporting import archive
from relight.workers.exchange.exporting.blanks import Blanks
from relight.workers.exchange.exporting.torch_file import NotPickled, StillMeta, TorchFile


def _blanks(tensors: dict[str, torch.Tensor]) -> Blanks:
    return Blanks({name: Piece.whole(name, NAMES[it.dtype], tuple(it.shape)) for name, it in tensors.items()})


def _write(path: Path, tensors: dict[str, torch.Tensor], value: Any, blanks: Blanks) -> None:
    def chunks(name: str) -> Iterator[memoryview]:
        data = bytes(tensors[name].contiguous().view(-1).view(torch.uint8).numpy())
        for start in range(0, len(data), 7):
            yield memoryview(data[start : start + 7])

    TorchFile(value).write(path, blanks, chunks)


def _every_dtype() -> dict[str, torch.Tensor]:
    bits = torch.arange(48, dtype=torch.uint8)
    found = {name: bits.view(dtype).reshape(2, -1) for name, dtype in DTYPES.items() if name != "BOOL"}
    return {**found, "BOOL": bits.reshape(2, -1) % 2 == 0, "none": torch.empty(0, 3), "one": torch.tensor(4.5)}


@pytest.mark.parametrize("mmap", [False, True])
def test_every_dtype_comes_back_bit_by_bit_without_running_code(tmp_path: Path, mmap: bool) -> None:  # noqa: FBT001
    tensors = _every_dtype()
    blanks = _blanks(tensors)
    _write(tmp_path / "out.pt", tensors, blanks.tensors, blanks)
    found = load(tmp_path / "out.pt", mmap=mmap)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape, name
        assert bytes(found[name].view(-1).view(torch.uint8)) == bytes(tensor.contiguous().view(-1).view(torch.uint8))


def test_the_archive_is_whole_for_any_program_and_its_data_aligned(tmp_path: Path) -> None:
    tensors = _every_dtype()
    blanks = _blanks(tensors)
    _write(tmp_path / "out.pt", tensors, blanks.tensors, blanks)
    with zipfile.ZipFile(tmp_path / "out.pt") as archive:
        assert archive.testzip() is None
        raw = (tmp_path / "out.pt").read_bytes()
        for record in archive.infolist():
            header = raw[record.header_offset :][:30]
            data = record.header_offset + 30 + int.from_bytes(header[26:28], "little")
            assert (data + int.from_bytes(header[28:30], "little")) % 64 == 0, record.filename


def test_a_record_too_long_for_32_bits_has_room_for_64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LARGE", 16)
    tensors = {"long": torch.arange(100.0), "short": torch.ones(2)}
    blanks = _blanks(tensors)
    _write(tmp_path / "out.pt", tensors, blanks.tensors, blanks)
    assert zipfile.ZipFile(tmp_path / "out.pt").testzip() is None
    found = load(tmp_path / "out.pt", mmap=True)
    assert torch.equal(found["long"], tensors["long"])
    assert found["long"].data_ptr() % 64 == 0


def test_what_is_in_memory_is_written_beside_what_is_stored(tmp_path: Path) -> None:
    tensors = {"stored": torch.arange(6.0)}
    blanks = _blanks(tensors)
    real = torch.arange(12.0).reshape(3, 4)
    value = {"stored": blanks.tensors["stored"], "again": blanks.tensors["stored"], "real": real, "part": real[1:, 1]}
    _write(tmp_path / "out.pt", tensors, value, blanks)
    found = load(tmp_path / "out.pt")
    assert torch.equal(found["stored"], tensors["stored"])
    assert torch.equal(found["real"], real)
    assert torch.equal(found["part"], real[1:, 1])
    assert found["stored"].data_ptr() == found["again"].data_ptr()
    assert found["part"].untyped_storage().data_ptr() == found["real"].untyped_storage().data_ptr()


def test_the_pickle_is_the_one_that_torch_writes(tmp_path: Path) -> None:
    real = {"w": torch.nn.Parameter(torch.arange(3.0)), "n": [1, (2.0, "x")], "e": torch.empty(0, dtype=torch.int8)}
    theirs = io.BytesIO()
    torch.save(real, theirs)
    _write(tmp_path / "out.pt", {}, real, Blanks({}))
    with zipfile.ZipFile(theirs) as expected, zipfile.ZipFile(tmp_path / "out.pt") as written:
        assert written.read("archive/data.pkl") == expected.read("archive/data.pkl")


def test_blanks_take_addresses_and_no_memory() -> None:
    before = _resident()
    blanks = Blanks({"w": Piece.whole("w", "F32", (1 << 28,))})
    assert blanks.tensors["w"].nbytes == 1 << 30
    assert blanks.name_of(blanks.tensors["w"].data_ptr()) == "w"
    assert _resident() - before < 64 << 20


def test_what_cannot_be_pickled_is_said_before_there_is_a_file() -> None:
    with pytest.raises(NotPickled) as caught:
        TorchFile({"act": lambda x: x})
    assert "<lambda>" in str(caught.value)
    with pytest.raises(StillMeta):
        TorchFile({"w": torch.empty(3, device="meta")})


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
