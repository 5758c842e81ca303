"""What is exported comes back: the same digest, of all that the format holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.digest import digest
from relight.tests.workers.exchange.exporting.modules import Stateful, Tied
from relight.tests.workers.exchange.exporting.saving import save
from relight.tests.workers.exchange.importing.foreign import OPTIMIZERS, ByHand, bring, whole
from relight.workers.exchange.exporting.export import export
from relight.workers.exchange.exporting.formats import Wishes
from relight.workers.sampler import GlobalBatchSampler

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.distributed is:UserWarning")


class Average:
    """A part of one's own, with what JSON and pickle without code both lack."""

    def state_dict(self) -> dict[str, Any]:
        state: dict[Any, Any] = {
            "shadow": torch.arange(3.0),
            "seen": np.arange(4),
            "decay": (0.9, float("inf")),
            3: "three",
        }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise NotImplementedError


def one_of_each(optimizer: str) -> dict[str, Any]:
    """A trained model with its optimizer, scheduler, data and an average."""
    loop = ByHand.begin(OPTIMIZERS[optimizer]).train(3)
    data = TensorDataset(torch.zeros(16, 4))
    sampler = GlobalBatchSampler(len(data), batch_size=4, rank=0, world_size=1, seed=0)
    return {
        "model": loop.model,
        "optimizer": loop.optimizer,
        "scheduler": loop.scheduler,
        "loader": DataLoader(data, batch_sampler=sampler),
        "extra": {"ema": Average()},
    }


def several() -> dict[str, Any]:
    first, second = ByHand.begin(seed=1).train(1), ByHand.begin(OPTIMIZERS["SGD with momentum"], seed=2).train(2)
    return {
        "model": {"G": first.model, "D": second.model},
        "optimizer": {"G": first.optimizer, "D": second.optimizer},
    }


def odd() -> dict[str, Any]:
    """Tied weights, and what a module keeps that is no tensor."""
    model = nn.ModuleDict({"tied": Tied(), "stateful": Stateful(5)})
    return {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}


RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"all parts, {name}": partial(one_of_each, name) for name in OPTIMIZERS},
    "several models": several,
    "odd": odd,
}


def digest_of(url: Path, only: str = "") -> str:
    backend = LocalBackend(url)
    return digest(backend, Catalog(backend).find().manifest, only=only)


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = tmp_path_factory.mktemp("runs") / "run"
    save(url, steps=2, **RUNS[request.param]())
    return url


@pytest.mark.parametrize("format_", ["checkpoint", "dcp"])
def test_a_format_that_holds_all_gives_the_same_digest(run: Path, tmp_path: Path, format_: str) -> None:
    export(run, tmp_path / "out", format=format_)
    found = bring(tmp_path / "out", tmp_path / "back")
    assert digest_of(tmp_path / "back") == digest_of(run)
    manifests = [Catalog(LocalBackend(url)).find().manifest for url in (run, tmp_path / "back")]
    assert manifests[0].progress == manifests[1].progress
    assert found.left_out == ()


@pytest.mark.parametrize(
    ("format_", "wishes"),
    [
        ("state-dict", Wishes()),
        ("safetensors", Wishes()),
        ("safetensors", Wishes(shard_bytes=200)),
    ],
)
def test_a_format_of_weights_gives_the_same_model(run: Path, tmp_path: Path, format_: str, wishes: Wishes) -> None:
    before = whole(run)
    if not any(name.startswith("model/G/") for name in before.tensors):
        export(run, tmp_path / "out", format=format_, wishes=wishes)
        bring(tmp_path / "out", tmp_path / "back")
        assert digest_of(tmp_path / "back", "model") == digest_of(run, "model")
        return
    export(run, tmp_path / "out", format=format_, wishes=replace(wishes, only="G"))
    bring(tmp_path / "out", tmp_path / "back")
    back = whole(tmp_path / "back")
    assert all(back.read(name) == before.read(name.replace("model/", "model/G/")) for name in back.tensors)
    assert len(back.tensors) == sum(name.startswith("model/G/") for name in before.tensors)


def test_a_whole_model_gives_the_same_model(tmp_path: Path) -> None:
    save(tmp_path / "run", model=Tied())
    made = "relight.tests.workers.exchange.exporting.modules:Tied"
    export(tmp_path / "run", tmp_path / "out.pt", format="torch", wishes=Wishes(model=made))
    bring(tmp_path / "out.pt", tmp_path / "back", trusted=True)
    assert digest_of(tmp_path / "back", "model") == digest_of(tmp_path / "run", "model")


def test_a_users_own_module_of_that_name_is_no_wrapper(tmp_path: Path) -> None:
    save(tmp_path / "run", model=nn.ModuleDict({"module": Tied()}))
    export(tmp_path / "run", tmp_path / "out.pt", format="checkpoint")
    bring(tmp_path / "out.pt", tmp_path / "back")
    assert digest_of(tmp_path / "back") == digest_of(tmp_path / "run")


def test_what_was_changed_in_an_exported_checkpoint_counts(tmp_path: Path) -> None:
    save(tmp_path / "run", **one_of_each("AdamW"))
    export(tmp_path / "run", tmp_path / "out.pt", format="checkpoint")
    content = torch.load(tmp_path / "out.pt", weights_only=True)  # noqa: TID251 -- written by this very test
    content["optimizer_state_dict"]["param_groups"][0]["lr"] = 0.5
    content["epoch"] = 3
    torch.save(content, tmp_path / "out.pt")
    found = bring(tmp_path / "out.pt", tmp_path / "back", step=40)
    assert (found.epoch, found.step, found.samples) == (3, 40, 0)
    assert whole(tmp_path / "back").state["optimizer"]["param_groups"][0]["lr"] == 0.5


@pytest.mark.parametrize("format_", ["checkpoint", "dcp"])
def test_a_part_of_an_export_may_be_left_out(tmp_path: Path, format_: str) -> None:
    save(tmp_path / "run", **one_of_each("AdamW"))
    export(tmp_path / "run", tmp_path / "out", format=format_)
    bring(tmp_path / "out", tmp_path / "back", without=frozenset({"optimizer", "ema"}))
    found = whole(tmp_path / "back")
    assert set(found.state) == {"data", "imported", "model", "progress", "scheduler"}
    assert all(name.startswith("model/") for name in found.tensors)
