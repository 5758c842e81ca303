"""Plain values pickled without torch: torch.load gives them back, and finds what torch.save would have written."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from relight.storage.shards import ITEM_BYTES, Piece
from relight.tests.workers.exchange.exporting.saving import load, net, save
from relight.workers.checkpoint.dtypes import DTYPES, NAMES
from relight.workers.exchange.exporting.pickling import pickle, stored, write_plain

SHAPES = ((), (3,), (2, 5), (0,), (2, 0, 3), (1, 4, 1))


def _random(dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    count = math.prod(shape) * ITEM_BYTES[dtype]
    bits = torch.randint(0, 2 if dtype == "BOOL" else 256, (count,), dtype=torch.uint8)
    return bits.view(DTYPES[dtype]).reshape(shape)


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy())


def _roundtrip(path: Path, tensors: dict[str, torch.Tensor], value: Any, *, mmap: bool = False) -> Any:
    def chunks(name: str) -> Iterator[memoryview]:
        yield memoryview(_bytes(tensors[name]))

    write_plain(path, value, chunks)
    return load(path, mmap=mmap)


def _stored(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return dict(stored({name: Piece.whole(name, NAMES[it.dtype], tuple(it.shape)) for name, it in tensors.items()}))


@pytest.mark.parametrize("mmap", [False, True])
def test_every_dtype_in_every_shape_comes_back(tmp_path: Path, mmap: bool) -> None:  # noqa: FBT001
    tensors = {f"{dtype} {shape}": _random(dtype, shape) for dtype in DTYPES for shape in SHAPES}
    found = _roundtrip(tmp_path / "out.pt", tensors, _stored(tensors), mmap=mmap)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert found[name].stride() == tensor.contiguous().stride(), name
        assert _bytes(found[name]) == _bytes(tensor), name


def test_plain_values_come_back_as_they_are(tmp_path: Path) -> None:
    value: dict[Any, Any] = {
        "none": None,
        "flags": [True, False],
        "numbers": [0, -1, 255, 2**31 - 1, -(2**31), 2**31, -(2**63), 2**64, 10**40],
        "floats": [0.0, -0.0, 1e-300, math.inf, -math.inf],
        "text": ["", "ä", "\U0001f600", "\ud800", "a" * 300],
        "tuples": [(), (1,), (1, (2, 3)), [(), [[]]]],
        3: {"by number": {}, 2.5: (0.9, 0.999)},
        "milestones": Counter({3: 1, 5: 2}),
    }
    found = _roundtrip(tmp_path / "out.pt", {}, value)
    assert found == value
    assert repr(found) == repr(value)  # Types and signs of zeros, too.
    assert math.isnan(_roundtrip(tmp_path / "nan.pt", {}, [math.nan])[0])


def test_a_tensor_that_is_named_twice_is_written_once(tmp_path: Path) -> None:
    tensors = {"w": torch.arange(1000.0)}
    blank = _stored(tensors)["w"]
    found = _roundtrip(tmp_path / "out.pt", tensors, {"a": blank, "b": [blank]})
    assert torch.equal(found["a"], tensors["w"])
    assert found["a"].data_ptr() == found["b"][0].data_ptr()
    assert (tmp_path / "out.pt").stat().st_size < 2 * 4000


def test_what_torch_saves_again_of_it_is_what_it_saves_of_the_original(tmp_path: Path) -> None:
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3), "u": torch.ones(2, dtype=torch.uint16)}
    found = _roundtrip(tmp_path / "out.pt", tensors, {**_stored(tensors), "lr": 0.1})
    ours, theirs = io.BytesIO(), io.BytesIO()
    torch.save(found, ours)
    torch.save({**tensors, "lr": 0.1}, theirs)
    assert ours.getvalue() == theirs.getvalue()


def test_what_is_not_plain_is_refused() -> None:
    with pytest.raises(TypeError) as caught:
        pickle([{1}])
    assert str(caught.value) == "a set is not pickled here"


_WITHOUT_TORCH = """
import re, sys
from pathlib import Path
sys.modules["torch"] = sys.modules["numpy"] = None  # An import of them fails.
from relight.workers.exchange.exporting.export import export
for form in ("state-dict", "checkpoint", "safetensors"):
    export(sys.argv[1], f"{sys.argv[2]}/{form}", format=form)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10)
"""


def test_weights_and_checkpoints_are_exported_without_torch(tmp_path: Path) -> None:
    model = net()
    save(tmp_path / "run", model=model, optimizer=torch.optim.Adam(model.parameters()))
    command = [sys.executable, "-c", _WITHOUT_TORCH, str(tmp_path / "run"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200, "MiB"
    assert torch.equal(load(tmp_path / "state-dict")["0.weight"], model.state_dict()["0.weight"])
