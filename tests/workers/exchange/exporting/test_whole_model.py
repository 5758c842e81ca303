"""The whole model by pickle: it predicts what the trained one does, however its code makes it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from relight.configs.schema import TrainConfig
from relight.tests.workers.exchange.exporting import modules
from relight.tests.workers.exchange.exporting.saving import load, net, save
from relight.workers.errors import BadTask, NotExported
from relight.workers.exchange.exporting.export import export
from relight.workers.exchange.exporting.formats import Wishes
from relight.workers.seeding import seed_everything

MODULES = modules.__name__


def _exported(url: Path, out: Path, model: str | None) -> Any:
    export(str(url), out, format="torch", wishes=Wishes(model=model))
    return load(out, weights_only=False)


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("Tied", torch.tensor([[1, 2, 3]])),
        ("Masked", torch.ones(3, 4)),
        ("Valued", torch.ones(3, 4)),
        ("Stateful", torch.ones(3, 2)),
        ("half", torch.ones(3, 4, dtype=torch.bfloat16)),
    ],
)
def test_the_model_predicts_what_the_trained_one_does(name: str, x: torch.Tensor, tmp_path: Path) -> None:
    trained: nn.Module = getattr(modules, name)()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.normal_()
    save(tmp_path / "run", model=trained)
    found = _exported(tmp_path / "run", tmp_path / "out.pt", f"{MODULES}:{name}")
    assert type(found) is type(trained)
    assert found.state_dict().keys() == trained.state_dict().keys()
    assert torch.equal(found.eval()(x), trained.eval()(x))
    assert all(ours.requires_grad for ours in found.parameters())


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    save(tmp_path / "run", model=modules.Tied())
    found = _exported(tmp_path / "run", tmp_path / "out.pt", f"{MODULES}:Tied")
    assert found.inner.weight is found.outer.weight


def _recipe(task: str, **args: Any) -> dict[str, Any]:
    return {"task": task, "task_args": args, "train": TrainConfig(seed=3).model_dump(mode="json")}


def test_a_configs_run_says_itself_how_its_model_is_made(tmp_path: Path) -> None:
    seed_everything(3, 0)
    trained = modules.Drawn()
    task = "relight.tests.workers.exchange.exporting.tasks:Making"
    save(tmp_path / "run", model=trained, recipe=_recipe(task, name="Drawn"))
    random.seed(5)
    torch.manual_seed(5)
    expected = (random.random(), float(torch.rand(())))
    random.seed(5)
    torch.manual_seed(5)
    found = _exported(tmp_path / "run", tmp_path / "out.pt", None)
    x = torch.ones(2, 4)
    assert (random.random(), float(x.new_empty(()).uniform_())) == expected, "the caller's generators were used up"
    assert torch.equal(found.eval()(x), trained.eval()(x))


def test_a_script_s_run_has_to_be_told(tmp_path: Path) -> None:
    save(tmp_path / "run", model=net())
    with pytest.raises(NotExported) as caught:
        _exported(tmp_path / "run", tmp_path / "out.pt", None)
    assert str(caught.value) == (
        f"{tmp_path}/run@1 does not say how its model is made (a script has trained it, or an older Relight): name "
        "what makes it with --model MODULE:CALLABLE, for example --model torchvision.models:vgg16"
    )


def test_a_task_that_is_not_there_any_more_is_named(tmp_path: Path) -> None:
    save(tmp_path / "run", model=net(), recipe=_recipe("gone.job:Task"))
    with pytest.raises(BadTask) as caught:
        _exported(tmp_path / "run", tmp_path / "out.pt", None)
    assert "task: 'gone.job:Task': there is no module 'gone'" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("modules", "--model modules: expected MODULE:CALLABLE, for example torchvision.models:vgg16"),
        ("no.such:net", "--model no.such:net: there is no module no, neither installed nor in "),
        (f"{MODULES}:nothing", f"--model {MODULES}:nothing: {MODULES} has no nothing that could be called"),
        (f"{MODULES}:text", "--model has made a str, which is no torch.nn.Module"),
        (f"{MODULES}:half", "does not fit the model that --model or its task makes:\n  0.bias: in the checkpoint"),
        (f"{MODULES}:Unpicklable", "cannot be pickled: "),
    ],
)
def test_a_model_that_cannot_be_made_or_does_not_fit_is_said(model: str, said: str, tmp_path: Path) -> None:
    save(tmp_path / "run", model=modules.Unpicklable() if "Unpicklable" in model else net())
    with pytest.raises(NotExported) as caught:
        _exported(tmp_path / "run", tmp_path / "out.pt", model)
    assert said in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_another_shape_is_named(tmp_path: Path) -> None:
    save(tmp_path / "run", model=nn.Linear(3, 8).to(torch.bfloat16))
    with pytest.raises(NotExported) as caught:
        _exported(tmp_path / "run", tmp_path / "out.pt", f"{MODULES}:half")
    assert "weight: shape [8, 3] in the checkpoint, [8, 4] in the model" in str(caught.value)


def test_a_bug_in_the_users_code_keeps_its_own_face(tmp_path: Path) -> None:
    save(tmp_path / "run", model=net())
    with pytest.raises(ArithmeticError):
        _exported(tmp_path / "run", tmp_path / "out.pt", f"{MODULES}:broken")
