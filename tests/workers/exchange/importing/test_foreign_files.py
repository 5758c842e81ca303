"""What torch, the Hub's libraries, Lightning and people write is brought in bit by bit, or refused in one line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from relight.tests.workers.exchange.importing.foreign import (
    OPTIMIZERS,
    ByHand,
    bring,
    make_model,
    saved,
    tensor,
    whole,
)
from relight.workers.errors import NotImported


def holds(url: Path, weights: dict[str, torch.Tensor]) -> bool:
    found = whole(url)
    kept = {name.removeprefix("model/") for name in found.tensors if name.startswith("model/")}
    floats = [name for name, value in weights.items() if value.dtype == torch.float32]
    return kept == set(weights) and all(torch.equal(tensor(url, f"model/{name}"), weights[name]) for name in floats)


def refusal(file: Path, url: Path, **wishes: Any) -> str:
    with pytest.raises(NotImported) as refused:
        bring(file, url, **wishes)
    assert not url.exists()
    return str(refused.value)


@pytest.mark.parametrize("archive", [True, False])
def test_a_state_dict_of_any_age_of_torch(tmp_path: Path, archive: bool) -> None:  # noqa: FBT001 -- pytest's
    weights = make_model().state_dict()
    torch.save(weights, tmp_path / "weights.pth", _use_new_zipfile_serialization=archive)
    found = bring(tmp_path / "weights.pth", tmp_path / "run")
    assert holds(tmp_path / "run", weights)
    assert (found.format, found.step, found.epoch, found.loss) == ("a state dict", 0, 0, None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64, torch.float8_e4m3fn, torch.bool])
def test_every_dtype_arrives_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    value = torch.randn(3, 5).to(dtype).t()
    bring(saved({"w": value, "none": torch.empty(0, 4)}, tmp_path / "w.pt"), tmp_path / "run")
    found = whole(tmp_path / "run").read("model/w")
    assert found == bytes(value.contiguous().view(torch.uint8).flatten().tolist())


def test_wrappers_prefixes_are_taken_off_and_it_is_said(tmp_path: Path) -> None:
    loop = ByHand.begin(OPTIMIZERS["with names"]).train(2)
    content = loop.general()
    wrapped = {f"_orig_mod.module.{name}": value for name, value in loop.model.state_dict().items()}
    for group in content["optimizer_state_dict"]["param_groups"]:
        group["param_names"] = [f"_orig_mod.module.{name}" for name in group["param_names"]]
    found = bring(saved({**content, "model_state_dict": wrapped}, tmp_path / "loop.pt"), tmp_path / "run")
    assert holds(tmp_path / "run", loop.model.state_dict())
    assert "optimizer/state/0.weight/exp_avg" in whole(tmp_path / "run").tensors
    assert [note for note in found.notes if "taken off" in note] == [
        "'_orig_mod.' is taken off the names of the model's tensors",
        "'module.' is taken off the names of the model's tensors",
    ]


def test_a_prefix_of_ones_own_is_taken_off_where_it_is_named(tmp_path: Path) -> None:
    weights = make_model().state_dict()
    file = saved({f"net.{name}": value for name, value in weights.items()}, tmp_path / "w.pt")
    bring(file, tmp_path / "run", strip_prefix="net.")
    assert holds(tmp_path / "run", weights)
    assert refusal(file, tmp_path / "no", strip_prefix="nit.").startswith(
        f"--strip-prefix nit.: no name in {file} begins so"
    )


def test_a_loss_of_numpys_and_a_scripts_options_need_no_trust(tmp_path: Path) -> None:
    content = {**ByHand.begin().train(2).general(), "loss": np.float64(0.25), "args": argparse.Namespace(lr=0.1)}
    found = bring(saved({**content, "history": np.zeros(3)}, tmp_path / "loop.pt"), tmp_path / "run")
    assert (found.loss, found.left_out) == (0.25, ("args", "history"))


def test_the_step_is_what_the_optimizer_counted_unless_something_says_it(tmp_path: Path) -> None:
    content = ByHand.begin().train(5).general()
    found = bring(saved(content, tmp_path / "loop.pt"), tmp_path / "counted")
    assert (found.step, found.epoch) == (5, 1)
    assert found.notes == ("the step, 5, is what the optimizer has counted; --step N says another",)
    assert bring(saved({**content, "global_step": 9}, tmp_path / "l.pt"), tmp_path / "said").step == 9
    found = bring(tmp_path / "l.pt", tmp_path / "asked", step=11, epoch=4)
    assert (found.step, found.epoch) == (11, 4)


def test_a_checkpoint_of_lightnings_knows_which_epochs_are_over(tmp_path: Path) -> None:
    loop = ByHand.begin().train(6)
    content = {
        "epoch": 0,
        "global_step": 6,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": {f"net.{name}": value for name, value in loop.model.state_dict().items()},
        "loops": {"fit_loop": {"epoch_progress": {"current": {"ready": 1, "completed": 0, "processed": 1}}}},
        "callbacks": {},
        "optimizer_states": [loop.optimizer.state_dict()],
        "lr_schedulers": [loop.scheduler.state_dict()],
        "hyper_parameters": {"lr": 0.1},
    }
    found = bring(saved(content, tmp_path / "last.ckpt"), tmp_path / "run", strip_prefix="net.")
    assert (found.step, found.epoch) == (6, 1)
    assert sorted(found.parts) == ["model", "optimizer", "scheduler"]
    assert found.left_out == ("pytorch-lightning_version", "loops", "callbacks", "hyper_parameters")


def test_a_whole_model_needs_trust_and_the_message_says_why(tmp_path: Path) -> None:
    model = make_model()
    file = saved(model, tmp_path / "model.pt")
    said = refusal(file, tmp_path / "run")
    assert "is to run the code that the file names, whoever wrote it. If you trust where it comes" in said
    assert "--trust-pickle" in said
    assert bring(file, tmp_path / "run", trusted=True).format == "a whole model"
    assert holds(tmp_path / "run", model.state_dict())
    assert holds_after(tmp_path, saved({"model": model, "epoch": 2}, tmp_path / "both.pt"), model)


def holds_after(tmp_path: Path, file: Path, model: nn.Module) -> bool:
    return bring(file, tmp_path / "both", trusted=True).epoch == 2 and holds(tmp_path / "both", model.state_dict())


class Gone(nn.Linear):
    """Its class cannot be found where it is read."""


def test_a_whole_model_whose_class_is_not_there_says_where_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gone, "__module__", "gone_with_the_wind")
    monkeypatch.setitem(__import__("sys").modules, "gone_with_the_wind", argparse.Namespace(Gone=Gone))
    file = saved(Gone(2, 2), tmp_path / "model.pt")
    monkeypatch.undo()
    said = refusal(file, tmp_path / "run", trusted=True)
    assert "No module named 'gone_with_the_wind'" in said
    assert "Start in the folder of the code that it was saved with" in said


def test_safetensors_in_one_file_with_an_index_and_in_a_folder_as_the_hub_has_it(tmp_path: Path) -> None:
    weights = {name: value.contiguous() for name, value in make_model().state_dict().items()}
    hub = tmp_path / "hub"
    hub.mkdir()
    save_file(weights, hub / "model.safetensors")
    bring(hub / "model.safetensors", tmp_path / "one")
    bring(hub, tmp_path / "folder")
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    halves = [dict(list(weights.items())[:4]), dict(list(weights.items())[4:])]
    files: dict[str, str] = {}
    for number, half in enumerate(halves):
        save_file(half, sharded / f"model-{number}.safetensors")
        files |= dict.fromkeys(half, f"model-{number}.safetensors")
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    bring(sharded, tmp_path / "shards")
    bring(sharded / "model.safetensors.index.json", tmp_path / "index")
    assert all(holds(tmp_path / name, weights) for name in ("one", "folder", "shards", "index"))


class Tied(nn.Module):
    """A model whose parameters have another order than its state dict, a buffer like a parameter, and a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(4))
        self.first = nn.Linear(4, 4, bias=False)
        self.last = nn.Linear(4, 4, bias=False)
        self.last.weight = self.first.weight
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)


def tied_loop() -> dict[str, Any]:
    model = Tied()
    optimizer = torch.optim.AdamW([it for it in model.parameters() if it.requires_grad])
    model.last(model.first(torch.ones(1, 4))).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def test_a_model_by_name_says_what_its_parameters_are_and_what_is_tied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tied_models", argparse.Namespace(Tied=Tied))
    content = tied_loop()
    assert "--model MODULE:CALLABLE" in refusal(saved(content, tmp_path / "l.pt"), tmp_path / "run")
    del content["model"]["last.weight"]
    found = bring(saved(content, tmp_path / "l.pt"), tmp_path / "run", model="tied_models:Tied")
    assert "last.weight is not in the file: the model ties it to a tensor that is" in found.notes
    assert "optimizer/state/first.weight/exp_avg" in whole(tmp_path / "run").tensors
    del content["model"]["frozen"]
    assert refusal(saved(content, tmp_path / "l.pt"), tmp_path / "no", model="tied_models:Tied") == (
        f"{tmp_path / 'l.pt'} does not fit the model that --model makes: frozen is not in the file"
    )


def test_tied_weights_are_one_parameter_without_a_word_about_the_model(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    bring(saved(content, tmp_path / "l.pt"), tmp_path / "run")
    params = whole(tmp_path / "run").state["optimizer"]["param_groups"][0]["params"]
    assert params == ["0.weight", "0.bias", "1.bias"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"w": torch.ones(2, dtype=torch.complex128)}, "torch.complex128"),
        ({"w": torch.eye(2).to_sparse()}, "torch.sparse_coo"),
        ({"epoch": 3}, "holds no model's weights that could be told: epoch. If one of these"),
        ({"modle_state_dict": {"w": torch.ones(2)}, "best": torch.ones(1)}, "did you mean model_state_dict?"),
        ({"resnet": {"w": torch.ones(2)}, "best": torch.ones(1)}, "holds no model's weights that could be told"),
        ([1, 2], "holds a list, and no state dict"),
        ({"model": {"w": torch.ones(2)}, "scheduler": {"f": torch.float32}}, "leave it out: --without scheduler"),
        ({"model": {"w": torch.ones(2)}, "epoch": -1}, "epoch is -1, which counts nothing"),
        ({"model": {"w": torch.ones(2)}, "epoch": 1.5}, "epoch is 1.5, which counts nothing"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_kept_or_understood_is_refused_by_name(tmp_path: Path, content: Any, said: str) -> None:
    assert said in refusal(saved(content, tmp_path / "file.pt"), tmp_path / "run")
