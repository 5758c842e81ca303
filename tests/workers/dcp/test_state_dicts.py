"""What a state dict may hold, under which names it is stored, and what is refused: one process, no ranks."""

from __future__ import annotations

import enum
import io
import os
import pickle  # noqa: TID251 -- to plant one
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed.checkpoint.default_planner import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
)
from torch.distributed.checkpoint.planner import WriteItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

import relight
from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.tests.workers.dcp.alone import everything, put, refusal, steps, whole
from relight.workers.checkpoint.warmstart.run_source import RunSource
from relight.workers.dcp.growing import grown, walked
from relight.workers.dcp.naming import tensor_name, top_key, top_key_given

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        float("inf"),
        "text",
        (1, (2.5, None)),
        [1, [2, "three"]],
        b"\x00\xff",
        b"",
        {"nested": {"deeper": (1,)}},
        {1: "a key that is no string"},
        {"$odd": 1, "a/b": 2, "%2F": 3},
        np.float64(1.5),
    ],
)
def test_what_is_no_tensor_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    put(tmp_path, dict.fromkeys(("it", "rank-00000", "progress", "dcp"), value))
    # DCP's own planner makes strings of keys.
    expected = {str(key): inner for key, inner in value.items()} if isinstance(value, dict) else value
    for found in everything(str(tmp_path)).values():
        assert found == expected
        assert type(found) in {type(value), float}


def test_arrays_buffers_and_tensors_in_odd_places_come_back(tmp_path: Path) -> None:
    state = {
        "array": np.arange(3),
        "buffer": io.BytesIO(b"bytes"),
        "pair": (torch.ones(2), 1),
        "list": [torch.zeros(2), {"x": torch.tensor(1.5)}, 3],
    }
    put(tmp_path, state)
    found = everything(str(tmp_path))
    assert found["array"].tolist() == [0, 1, 2]
    assert found["buffer"].getvalue() == b"bytes"
    assert found["pair"][0].tolist() == [1, 1]
    assert found["list"][0].tolist() == [0, 0]
    assert found["list"][1]["x"].item() == 1.5
    assert found["list"][2] == 3


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12).reshape(3, 4).t(),
        torch.zeros(0, 3),
        torch.tensor(True),
        torch.ones(3, dtype=torch.bfloat16)[::2],
        torch.ones(2, 2, requires_grad=True),
        nn.Parameter(torch.ones(2)),
        torch.zeros(2, dtype=torch.float8_e4m3fn),
    ],
)
def test_every_kind_of_tensor_comes_back(tmp_path: Path, tensor: torch.Tensor) -> None:
    put(tmp_path, {"model": {"it": tensor}})
    into = {"model": {"it": torch.zeros_like(tensor.detach())}}
    load(into, storage_reader=relight.dcp.Reader(str(tmp_path)))
    assert torch.equal(into["model"]["it"].float(), tensor.detach().float())
    described = relight.dcp.Reader(str(tmp_path)).read_metadata().state_dict_metadata["model.it"]
    assert described.properties.dtype == tensor.dtype  # type: ignore[union-attr]
    assert described.properties.requires_grad == tensor.requires_grad  # type: ignore[union-attr]


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Colour.RED, ".Colour, which cannot be saved without pickle. Leave it out"),
        ({1, 2}, "train/it is a builtins.set, which cannot be saved without pickle"),
        (
            torch.zeros(2, dtype=torch.complex128),
            "train.it is a torch.strided tensor of torch.complex128, which a shard",
        ),
        (
            torch.zeros(2).to_sparse(),
            "train.it is a torch.sparse_coo tensor of torch.float32, which a shard cannot hold",
        ),
        (
            (torch.zeros(2).to_sparse(),),
            "train.it holds a Tensor (torch.sparse_coo, torch.float32) within what DCP takes",
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_its_name(tmp_path: Path, value: Any, reason: str) -> None:
    assert reason in refusal(put, tmp_path, {"train": {"it": value}})
    assert steps(tmp_path) == []


def test_bytes_that_are_a_pickle_stay_bytes(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    pickled = pickle.dumps(Bomb())
    put(tmp_path, {"loader": {"rank0": pickled}})
    assert everything(str(tmp_path)) == {"loader": {"rank0": pickled}}
    assert not (tmp_path / "executed").exists()


class Own(DefaultSavePlanner):
    """One that makes its own bytes of what is no tensor."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self._make = make

    def transform_object(self, write_item: WriteItem, object: Any) -> Any:  # noqa: A002
        return object if isinstance(object, torch.Tensor) else io.BytesIO(self._make(object))


def torch_saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save([value, "changed"], buffer)
    return buffer.getvalue()


def test_a_planner_s_own_bytes_are_understood_when_they_hold_plain_values(tmp_path: Path) -> None:
    save({"it": 5}, storage_writer=relight.dcp.Writer(str(tmp_path)), planner=Own(torch_saved))
    assert everything(str(tmp_path)) == {"it": [5, "changed"]}


def test_a_planner_s_own_bytes_are_refused_when_they_would_have_to_be_executed(tmp_path: Path) -> None:
    writer = relight.dcp.Writer(str(tmp_path))
    said = refusal(save, {"it": Colour.RED}, storage_writer=writer, planner=Own(partial(pickle.dumps, protocol=2)))
    assert "it: the planner has made bytes of it that cannot be read without running code" in said


def test_without_flattening_a_whole_dict_is_one_value(tmp_path: Path) -> None:
    state = {"optimizer": {"lr": 0.1, "moments": {"a": torch.ones(2)}}, "w": torch.zeros(2)}
    writer = relight.dcp.Writer(str(tmp_path))
    save(state, storage_writer=writer, planner=DefaultSavePlanner(flatten_state_dict=False))
    into: dict[str, Any] = {"optimizer": None, "w": torch.ones(2)}
    reader = relight.dcp.Reader(str(tmp_path))
    load(into, storage_reader=reader, planner=DefaultLoadPlanner(False, False))
    assert into["optimizer"]["moments"]["a"].tolist() == [1, 1]
    assert into["w"].tolist() == [0, 0]


# --- names ---


def test_the_model_s_weights_are_stored_as_the_model_s(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"model": {"0.weight": torch.ones(2)}, "optimizer": {"state": {"0.weight": {"exp_avg": torch.ones(2)}}}},
    )
    found = whole(tmp_path)
    assert set(found.tensors) == {"model/0.weight", "optimizer/state/0.weight/exp_avg"}
    assert found.state["model"] == {"0.weight": {"$tensor": "model/0.weight"}}
    backend = open_backend(str(tmp_path))
    assert set(RunSource(backend, Catalog(backend).find().manifest).described) == {"0.weight"}


def test_so_are_weights_that_lie_at_the_top(tmp_path: Path) -> None:
    """As torchtitan has them, and whoever saves `model.state_dict()` itself."""
    state = {"0.weight": torch.ones(2), "train": {"step": torch.tensor(1)}, "epoch": 3}
    put(tmp_path, state)
    assert set(whole(tmp_path).tensors) == {"model/0.weight", "train/step"}
    assert set(everything(str(tmp_path))) == {"0.weight", "epoch", "train"}


def test_what_one_of_relight_s_own_runs_has_saved_is_loaded_too(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    checkpointer = relight.Checkpointer(
        str(tmp_path), model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.5)
    )
    checkpointer.restore()
    checkpointer.step()
    checkpointer.finish()
    into: dict[str, Any] = {"model": {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}, "optimizer": {"class": ""}}
    load(into, storage_reader=relight.dcp.Reader(str(tmp_path)))
    assert torch.equal(into["model"]["weight"], model.weight)
    assert into["optimizer"] == {"class": "SGD"}


PARTS = st.text(max_size=4) | st.sampled_from(["progress", "dcp", "dcp:x", "rank-1", "%70rogress", "$x", "a/b", "%2F"])


@given(st.lists(PARTS, min_size=1, max_size=3), st.lists(PARTS, min_size=1, max_size=3))
def test_different_places_have_different_names(one: list[str], other: list[str]) -> None:
    assert (tensor_name(tuple(one)) == tensor_name(tuple(other))) == (one == other)
    assert top_key_given(top_key(one[0])) == one[0]
    assert not top_key(one[0]).startswith(("rank-", "dcp:"))


LEAVES = st.dictionaries(
    st.lists(PARTS | st.integers(0, 2), min_size=1, max_size=4).map(tuple), st.integers(), max_size=6
)


@given(LEAVES.map(lambda leaves: {("top", *path): value for path, value in leaves.items()}))
def test_what_has_grown_into_a_tree_is_found_at_its_place(leaves: dict[tuple[str | int, ...], int]) -> None:
    tree, homeless = grown(leaves.items())
    at_home = {path: value for path, value in leaves.items() if path not in homeless}
    assert dict(walked(tree, set(at_home))) == at_home
