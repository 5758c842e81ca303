"""What is loaded into which kind of model: tied tensors, modules with their own ways, other dtypes, several models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from relight.tests.workers.warmstart.nets import Net, digest, net, tensor, write_run, write_safetensors, write_torch
from relight.workers.checkpoint.warmstart.loading import init_from
from relight.workers.checkpoint.warmstart.settings import InitFrom
from relight.workers.errors import BadWeights


def test_a_tied_tensor_is_loaded_by_either_of_its_names_and_refused_where_they_differ(tmp_path: Path) -> None:
    def tied() -> nn.ModuleDict:
        model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
        model["head"].weight = model["embed"].weight
        return model

    weight = torch.arange(15.0).reshape(5, 3)
    for content in ({"embed.weight": weight}, {"head.weight": weight}, {"embed.weight": weight, "head.weight": weight}):
        model = tied()
        init_from(model, str(write_torch(content, tmp_path / "a.pt")))
        assert torch.equal(tensor(model, "head.weight"), weight)
        assert model["head"].weight is model["embed"].weight
    path = str(write_torch({"embed.weight": weight, "head.weight": weight + 1}, tmp_path / "a.pt"))
    with pytest.raises(BadWeights) as caught:
        init_from(tied(), path)
    assert "embed.weight and head.weight are one tensor in this model, and two different ones" in str(caught.value)
    model = tied()
    init_from(model, InitFrom(path, exclude=["head.weight"]))
    assert torch.equal(tensor(model, "head.weight"), weight)


class Own(nn.Linear):
    """Loads in its own way: what is saved is twice what is used."""

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        if f"{prefix}weight" in state:
            state[f"{prefix}weight"] = state[f"{prefix}weight"] / 2
        super()._load_from_state_dict(state, prefix, *rest)


def test_a_module_that_loads_in_its_own_way_does(tmp_path: Path) -> None:
    source, model = nn.Sequential(Own(2, 2), nn.Linear(2, 2)), nn.Sequential(Own(2, 2), nn.Linear(2, 2))
    init_from(model, InitFrom(str(write_torch(source.state_dict(), tmp_path / "a.pt")), exclude=["1.bias"]))
    assert torch.equal(tensor(model, "0.weight"), tensor(source, "0.weight") / 2)
    assert torch.equal(tensor(model, "1.weight"), tensor(source, "1.weight"))
    assert not torch.equal(tensor(model, "1.bias"), tensor(source, "1.bias"))


def test_weights_are_converted_to_the_models_dtype(tmp_path: Path) -> None:
    source = net(1)
    path = write_safetensors(net(1).to(torch.float16), tmp_path / "a.safetensors")
    model = Net().to(torch.bfloat16)
    initial = init_from(model, str(path))
    assert torch.equal(model.head.weight, source.head.weight.half().bfloat16())
    assert "converted   10 from float16 to bfloat16" in initial.text


def test_a_model_without_memory_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = Net()
    with pytest.raises(BadWeights) as caught:
        init_from(model, str(write_safetensors(net(1), tmp_path / "a.safetensors")))
    assert "is on the meta device and has no memory to load into" in str(caught.value)


def test_several_models_are_loaded_by_their_names(tmp_path: Path) -> None:
    source = {"student": net(1), "teacher": net(2)}
    url = write_run(source, tmp_path / "run")  # type: ignore[arg-type]
    models = {"student": net(3), "teacher": net(4)}
    init_from(models, url)
    assert all(digest(models[name].state_dict()) == digest(source[name].state_dict()) for name in models)
    init_from(net(5), InitFrom(url, rename={"student/": ""}, include=["head"], strict=False))
