"""What a model may be: several, compiled, wrapped for recomputation, tied, or without memory until it is restored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.reading import ShardReader
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.checkpoint.state import Parts, capture
from relight.workers.errors import NotCaptured, StateMismatch
from relight.workers.signals import StopFlag


def open_run(url: Path, model: Any, optimizer: Any = None, **options: Any) -> Checkpointer:
    return Checkpointer(
        str(url), model=model, optimizer=optimizer, settings=CheckpointSettings(every=100), stop=StopFlag(), **options
    )


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = model(torch.ones(3, 4)).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


class Pair:
    """A generator and a discriminator, of the same shapes, each with an optimizer of its own kind."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.models = {name: nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for name in ("generator", "discriminator")}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.AdamW(self.models["generator"].parameters()),
            "discriminator": torch.optim.SGD(self.models["discriminator"].parameters(), lr=0.1, momentum=0.9),
        }

    def step(self) -> list[float]:
        return [step(self.models[name], self.optimizers[name]) for name in self.models]


def test_several_models_and_optimizers_go_on_each_as_it_was(tmp_path: Path) -> None:
    first, second = Pair(1), Pair(2)
    checkpointer = open_run(tmp_path, first.models, first.optimizers)
    checkpointer.restore()
    for _ in range(3):
        first.step()
        checkpointer.step()
    checkpointer.finish()
    assert open_run(tmp_path, second.models, second.optimizers).restore().step == 3
    assert [second.step() for _ in range(3)] == [first.step() for _ in range(3)]


def test_a_model_that_is_missing_is_named(tmp_path: Path) -> None:
    pair = Pair(1)
    checkpointer = open_run(tmp_path, pair.models, pair.optimizers)
    checkpointer.restore()
    pair.step()
    checkpointer.step()
    checkpointer.finish()
    only = {"generator": pair.models["generator"]}
    with pytest.raises(StateMismatch) as caught:
        open_run(tmp_path, only, {"generator": pair.optimizers["generator"]}).restore()
    assert "model/discriminator/0.weight: in the checkpoint, not in this model" in str(caught.value)
    assert "optimizer/discriminator: in the checkpoint, but not given here" in str(caught.value)


def names_saved(url: Path, model: nn.Module) -> list[str]:
    checkpointer = open_run(url, model, torch.optim.SGD(model.parameters(), lr=0.1))
    checkpointer.restore()
    checkpointer.step()
    checkpointer.finish()
    backend = LocalBackend(url)
    layout = ShardReader(backend, Catalog(backend).find().manifest, 0).layout()
    return sorted(placed.piece.name for placed in layout.placed if placed.piece.name.startswith("model/"))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # Of torch 2.10's own compiler.
def test_names_are_those_of_the_module_that_the_user_wrote(tmp_path: Path) -> None:
    inner = nn.Sequential(nn.Linear(4, 4), checkpoint_wrapper(nn.Linear(4, 4)))
    names = names_saved(tmp_path, torch.compile(inner))  # type: ignore[arg-type]  # a module, as the annotation hides
    assert names == ["model/0.bias", "model/0.weight", "model/1.bias", "model/1.weight"]


# --- models without memory ---


def tied(device: str) -> Any:
    with torch.device(device):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
        model[1].weight = model[0].weight
    return model


def test_a_model_on_the_meta_device_is_given_memory_and_the_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained = tied("cpu")
    optimizer = torch.optim.AdamW(trained.parameters())
    checkpointer = open_run(tmp_path, trained, optimizer)
    checkpointer.restore()
    step(trained, optimizer)
    checkpointer.step()
    checkpointer.finish()
    blank = tied("meta")
    fresh = torch.optim.AdamW(blank.parameters())
    assert open_run(tmp_path, blank, fresh).restore().step == 1
    assert blank[1].weight is blank[0].weight
    assert fresh.param_groups[0]["params"][0] is blank[0].weight
    assert [step(blank, fresh) for _ in range(3)] == [step(trained, optimizer) for _ in range(3)]


def test_with_nothing_to_resume_its_modules_fill_themselves_or_the_caller_does(tmp_path: Path) -> None:
    blank = tied("meta")
    open_run(tmp_path / "a", blank).restore()
    assert 0 < blank[0].weight.abs().max() <= 0.5  # Within 1 / sqrt(4), as Linear has it.
    filled = tied("meta")

    def fill() -> None:
        for parameter in filled.parameters():
            nn.init.constant_(parameter, 3.0)

    open_run(tmp_path / "b", filled, initialize=fill).restore()
    assert filled[0].weight.unique().tolist() == [3.0]


def test_what_a_damaged_checkpoint_left_in_a_model_without_values_is_not_begun_with(tmp_path: Path) -> None:
    """What is nobody's may be written before all is proven. Then there has to be something else in its place."""
    trained = nn.Linear(1024, 1200)  # More than one block: the bias is in the first.
    checkpointer = open_run(tmp_path, trained)
    checkpointer.restore()
    checkpointer.step()
    checkpointer.finish()
    shard = next(tmp_path.glob("checkpoints/*/*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    blank = nn.Linear(1024, 1200, device="meta")

    def fill() -> None:
        for parameter in blank.parameters():
            nn.init.constant_(parameter, 3.0)

    assert open_run(tmp_path, blank, initialize=fill).restore().step == 0
    assert [parameter.unique().tolist() for parameter in blank.parameters()] == [[3.0]] * 2


class Bare(nn.Module):
    """Has a tensor and no way to fill it."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.empty(3))


def test_a_module_that_nobody_would_fill_is_refused_by_name(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), Bare())
    with pytest.raises(NotCaptured) as caught:
        open_run(tmp_path, model).restore()
    assert str(caught.value) == (
        "1 is on the meta device and cannot fill itself (no reset_parameters()): "
        "give Checkpointer(initialize=...), which fills the model's tensors"
    )


# --- what cannot be saved ---


class Strange(torch.Tensor):
    """A tensor that may mean anything, as quantized ones do."""


class Holding:
    def __init__(self, value: object) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.value = state_dict["value"]


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        (torch.ones(2).as_subclass(Strange), "Strange, a kind of tensor whose content is not known"),
        (torch.eye(2).to_sparse(), "extra/value is a torch.sparse_coo tensor of torch.float32 on cpu"),
        (torch.ones(2, device="meta"), "extra/value is a torch.strided tensor of torch.float32 on meta"),
        (object(), "extra/value is a builtins.object, which cannot be saved without pickle"),
    ],
    ids=["subclass", "sparse", "meta", "object"],
)
def test_a_state_that_cannot_be_saved_is_refused_by_name(tmp_path: Path, value: object, refusal: str) -> None:
    checkpointer = open_run(tmp_path, nn.Linear(1, 1), extra={"extra": Holding(value)})
    checkpointer.restore()
    checkpointer.step()
    with pytest.raises(NotCaptured) as caught:
        checkpointer.finish()
    assert refusal in str(caught.value)


def test_an_average_s_buffers_are_rank_0_s_as_the_model_s_are() -> None:
    """Under DDP BatchNorm's statistics differ between ranks, and so do copies of them; a mix of all is nobody's."""
    model = nn.BatchNorm1d(2)
    parts = Parts(model=model, shared={"average": AveragedModel(model, use_buffers=True)})
    assert {"model/running_mean", "average/module.running_mean"} <= capture(parts, {}, rank=1).rank_zero
