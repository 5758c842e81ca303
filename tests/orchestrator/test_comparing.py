"""What `relight diff` finds: which tensors, by how much, and which values of the state; whatever ranks wrote them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from relight.orchestrator.commands import elements
from relight.orchestrator.commands.comparing import compare, differences, side_by_side
from relight.orchestrator.commands.elements import Distance
from relight.orchestrator.commands.progress import progress
from relight.storage.arrangement import plan
from relight.storage.backends.local import LocalBackend
from relight.storage.errors import Damaged, NotFound
from relight.storage.persist import persist
from relight.storage.shards import Piece
from relight.tests.storage.checkpoints import attempt_id, job, save
from relight.tests.verbs.places import flip

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
}  # fmt: skip


def stored(root: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], step: int = 10) -> str:
    """A checkpoint of one rank; what `diff` is told to look at."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    pieces = [Piece.whole(name, names[each.dtype], tuple(each.shape)) for name, each in tensors.items()]
    layout = plan(pieces, state)
    data = bytearray(layout.header.ljust(layout.size))
    for placed in layout.placed:
        data[placed.start : placed.start + placed.piece.size] = _bytes(tensors[placed.piece.name])
    assert persist(LocalBackend(root), job(attempt_id(step), world_size=1), memoryview(data)).committed
    return f"{root}@{step}"


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def diff(first: str, second: str) -> dict[str, Any]:
    return compare(first, second, complain=lambda _: None, progress=lambda size: progress("diff", size, quiet=True))


def test_the_same_state_is_equal_however_many_ranks_wrote_it(tmp_path: Path) -> None:
    for ranks in (1, 2, 3, 5):
        save(LocalBackend(tmp_path / str(ranks)), attempt_id(10), world_size=ranks)
    facts = diff(str(tmp_path / "2"), f"{tmp_path}/5@10")
    assert (facts["equal"], facts["tensors"], facts["state"]) == (True, [], [])
    assert diff(str(tmp_path / "1"), str(tmp_path / "3"))["equal"]
    assert facts["a"] == {"url": str(tmp_path / "2"), "step": 10, "name": attempt_id(10).name}


def test_each_tensor_that_differs_is_told_with_how(tmp_path: Path) -> None:
    ones = torch.ones(4, 2)
    other = ones.clone()
    other[2, 1] = 1.25
    first = {"model/a": ones, "model/b": ones, "model/c": ones, "model/same": ones}
    second = {"model/b": torch.ones(8), "model/c": other, "model/d": ones.half(), "model/same": ones}
    facts = diff(stored(tmp_path / "1", first, {}), stored(tmp_path / "2", second, {}))
    matrix, row = {"dtype": "F32", "shape": [4, 2]}, {"dtype": "F32", "shape": [8]}
    assert facts["tensors"] == [
        {"name": "model/a", "what": "only in a", "a": matrix},
        {"name": "model/b", "what": "shape or dtype", "a": matrix, "b": row},
        {"name": "model/c", "what": "values", "a": matrix, "b": matrix, "differing": 1, "elements": 8,
         "share": 0.125, "max_abs_diff": 0.25},
        {"name": "model/d", "what": "only in b", "b": {"dtype": "F16", "shape": [4, 2]}},
    ]  # fmt: skip
    assert not facts["equal"]


def test_the_state_s_differences_are_told_by_their_paths() -> None:
    first = {"progress": {"step": 10, "epoch": 1}, "optimizer": {"groups": [{"lr": 0.1}, {"lr": 0.1}]}, "old": None}
    second = {"progress": {"step": 20, "epoch": 1}, "optimizer": {"groups": [{"lr": 0.1}]}, "new": [1]}
    assert list(differences(first, second)) == [
        {"path": "new", "b": [1]},
        {"path": "old", "a": None},
        {"path": "optimizer.groups[1]", "a": {"lr": 0.1}},
        {"path": "progress.step", "a": 10, "b": 20},
    ]
    assert list(differences(1, 1.0)) == [{"path": "", "a": 1, "b": 1.0}]
    assert list(differences(first, first)) == []


def test_what_was_imported_says_so_without_being_different_for_it(tmp_path: Path) -> None:
    first = stored(tmp_path / "1", {}, {"progress": {"step": 1}})
    assert diff(first, stored(tmp_path / "2", {}, {"progress": {"step": 1}, "imported": {"from": "x.pt"}}))["equal"]


@pytest.mark.parametrize("name", DTYPES)
def test_the_distance_is_torch_s_own_in_every_dtype(name: str) -> None:
    dtype, generator = DTYPES[name], torch.Generator().manual_seed(7)
    raw = torch.randint(0, 256, (2, 4096), dtype=torch.uint8, generator=generator)
    if name == "BOOL":
        raw %= 2
    first, second = (each.view(dtype) for each in raw)
    second = torch.where(torch.arange(len(first)) % 3 == 0, second.clone(), first)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    apart = (first.to(wide) - second.to(wide)).abs()
    apart = apart[~apart.isnan()]
    found = Distance()
    found.add(name, memoryview(_bytes(first)), memoryview(_bytes(second)))
    width = first.element_size()
    bits = [torch.frombuffer(bytearray(_bytes(each)), dtype=torch.uint8).view(-1, width) for each in (first, second)]
    assert found.elements == len(first)
    assert found.differing == int((bits[0] != bits[1]).any(dim=1).sum())
    assert found.largest == pytest.approx(float(apart.max()), rel=1e-12, abs=0)


def test_every_float_of_8_bits_is_what_torch_takes_it_for() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    for name in ("F8_E4M3", "F8_E5M2"):
        ours = torch.from_numpy(elements._values(name, memoryview(_bytes(codes))))
        assert torch.equal(ours.nan_to_num(1e9), codes.view(DTYPES[name]).double().nan_to_num(1e9))


def test_what_is_no_number_differs_and_measures_nothing() -> None:
    found, nan, one = Distance(), torch.full((2,), math.nan), torch.ones(2)
    found.add("F32", memoryview(_bytes(nan)), memoryview(_bytes(one)))
    assert (found.differing, math.isnan(found.largest)) == (2, True)
    found.add("F32", memoryview(_bytes(one)), memoryview(_bytes(one * math.inf)))
    assert found.largest == math.inf


def test_two_ways_to_cut_the_same_bytes_are_brought_together() -> None:
    data = bytes(range(100))
    first = iter([memoryview(data[:1]), memoryview(data[1:60]), memoryview(data[60:])])
    second = iter([memoryview(data[:50]), memoryview(data[50:])])
    pairs = list(side_by_side(first, second))
    assert b"".join(one for one, _ in pairs) == b"".join(two for _, two in pairs) == data
    assert [len(one) for one, _ in pairs] == [1, 49, 10, 40]


def test_a_damaged_newest_is_passed_over_and_a_damaged_step_is_not(tmp_path: Path) -> None:
    for step in (10, 20):
        stored(tmp_path / "run", {"model/w": torch.ones(8)}, {}, step)
    flip(next(tmp_path.glob("run/checkpoints/step-000000000020*/*.safetensors")))
    told: list[str] = []
    facts = compare(
        str(tmp_path / "run"), f"{tmp_path}/run@10", complain=told.append,
        progress=lambda size: progress("diff", size, quiet=True),
    )  # fmt: skip
    assert (facts["equal"], facts["a"]["step"]) == (True, 10)
    assert len(told) == 1
    assert told[0].startswith(f"step 20 of {tmp_path}/run is passed over: checkpoints/step-000000000020")
    with pytest.raises(Damaged):
        diff(f"{tmp_path}/run@20", f"{tmp_path}/run@10")
    flip(next(tmp_path.glob("run/checkpoints/step-000000000010*/*.safetensors")))
    with pytest.raises(NotFound, match="there is no valid checkpoint"):
        diff(str(tmp_path / "run"), str(tmp_path / "run"))
