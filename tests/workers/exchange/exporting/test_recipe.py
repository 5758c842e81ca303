"""A config's run keeps how its model is made, and it is no part of the run's state."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from relight.configs.load import load as load_config
from relight.orchestrator.commands.inspection import digest_checkpoint
from relight.tests.workers.exchange.exporting.saving import load, net, save, shards
from relight.workers.exchange.exporting.export import export
from relight.workers.recipe import Recipe

_CONFIG = """
name: making
task: relight.tests.workers.exchange.exporting.tasks:Making
task_args: {{name: Tied}}
train: {{steps: 2, batch_size: 4, seed: 7, lr: 0.02}}
storage: {{url: {folder}/run}}
"""


def test_a_configs_run_is_exported_as_a_whole_model_without_a_word_more(tmp_path: Path) -> None:
    (tmp_path / "making.yaml").write_text(_CONFIG.format(folder=tmp_path))
    command = [sys.executable, "-m", "relight", "run", str(tmp_path / "making.yaml"), "train.lr=0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    export(str(tmp_path / "run"), tmp_path / "out.pt", format="torch")
    export(str(tmp_path / "run"), tmp_path / "out.pth", format="state-dict")
    model = load(tmp_path / "out.pt", weights_only=False)
    expected = load(tmp_path / "out.pth")
    assert type(model).__name__ == "Tied"
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert _own_state(shards(tmp_path / "run")[0])["recipe"] == {
        "task": "relight.tests.workers.exchange.exporting.tasks:Making",
        "task_args": {"name": "Tied"},
        "train": json.loads(load_config(str(tmp_path / "making.yaml"), ["train.lr=0.5"]).train.model_dump_json()),
    }


def _own_state(shard: Path) -> Any:
    data = shard.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["relight.state"])["rank-00000"]


def test_a_recipe_changes_no_digest_and_another_one_no_resume(tmp_path: Path) -> None:
    recipe = {"task": "a.b:C", "task_args": {}, "train": {}}
    for name, given in (("with", recipe), ("without", None)):
        torch.manual_seed(0)
        save(tmp_path / name, model=net(), recipe=given)
    assert digest_checkpoint(str(tmp_path / "with"), print) == digest_checkpoint(str(tmp_path / "without"), print)
    for name, given in (("with", None), ("without", recipe), ("with", {**recipe, "task": "d.e:F"})):
        model = net()
        save(tmp_path / name, model=model, steps=0, recipe=given)
        torch.manual_seed(0)
        assert torch.equal(model[0].weight, net()[0].weight)  # type: ignore[index]


@pytest.mark.parametrize(
    "own", [{}, {"recipe": None}, {"recipe": {"task": "a.b:C"}}, {"recipe": {"task": "a.b:C", "train": {"lr": "much"}}}]
)
def test_a_recipe_that_is_not_there_or_not_understood_is_none(own: dict[str, Any]) -> None:
    assert Recipe.read(own) is None
