"""A run begins with the weights it is given once, where there is nothing to resume, and never again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import relight
from relight.configs.events import read_events
from relight.configs.protocol import ENV_RUN_DIR
from relight.tests.workers.warmstart.nets import Net, digest, net, tensor, write_run, write_safetensors
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.checkpoint.settings import CheckpointSettings
from relight.workers.errors import StateMismatch
from relight.workers.signals import StopFlag


def _open(url: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **options: Any) -> Checkpointer:
    settings = CheckpointSettings(every=1000)
    return Checkpointer(str(url), model=model, optimizer=optimizer, settings=settings, stop=StopFlag(), **options)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_safetensors(net(1), tmp_path / "a.safetensors")


def test_the_weights_are_used_where_there_is_nothing_to_resume_and_not_looked_at_otherwise(
    tmp_path: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = net(2)
    optimizer = torch.optim.AdamW(model.parameters())
    first = _open(tmp_path / "run", model, optimizer, init_from=str(weights))
    assert first.restore().step == 0
    assert digest(model.state_dict()) == digest(net(1).state_dict())
    assert not optimizer.state
    assert f"relight: beginning with the weights of {weights}\n  loaded      11 of 11 tensors" in capfd.readouterr().err
    model(torch.randn(4, 7)).sum().backward()
    optimizer.step()
    first.step(loss=1.0)
    first.finish()
    trained = digest(model.state_dict())

    weights.unlink()
    model = net(3)
    second = _open(tmp_path / "run", model, torch.optim.AdamW(model.parameters()), init_from=str(weights))
    assert second.restore().step == 1
    assert digest(model.state_dict()) == trained
    assert "beginning with" not in capfd.readouterr().err
    second.finish()


def test_a_model_on_the_meta_device_is_given_memory_first_values_and_then_the_weights(
    tmp_path: Path, weights: Path
) -> None:
    with torch.device("meta"):
        model = Net()

    def initialize() -> None:
        with torch.no_grad():
            for value in model.state_dict().values():
                value.fill_(7)

    settings = relight.InitFrom(str(weights), exclude=["head"])
    _open(tmp_path / "run", model, init_from=settings, initialize=initialize).restore()
    assert torch.equal(tensor(model, "body.0.weight"), tensor(net(1), "body.0.weight"))
    assert bool((model.head.weight == 7).all())


def test_another_run_is_a_source_while_it_goes_on(tmp_path: Path) -> None:
    url = write_run(net(1), tmp_path / "other", steps=3)
    model = net(2)
    _open(tmp_path / "run", model, init_from=f"{url}@3").restore()
    assert digest(model.state_dict()) == digest(net(1).state_dict())


def test_weights_that_do_not_fit_stop_the_run_before_its_first_save(tmp_path: Path, weights: Path) -> None:
    model = net(2, classes=3)
    before = digest(model.state_dict())
    with pytest.raises(StateMismatch) as caught:
        _open(tmp_path / "run", model, init_from=str(weights)).restore()
    assert 'under init_from:\n  exclude: ["head"]' in str(caught.value)
    assert digest(model.state_dict()) == before
    assert not (tmp_path / "run" / "generations").exists()


def test_the_journal_hears_how_much_was_loaded(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events").mkdir()
    monkeypatch.setenv(ENV_RUN_DIR, str(tmp_path / "events"))
    _open(tmp_path / "run", net(2), init_from=relight.InitFrom(str(weights), exclude=["head"])).restore()
    (event,) = [event for event in read_events(tmp_path / "events") if event["event"] == "begun with weights"]
    assert event["source"] == str(weights)
    assert {key: event[key] for key in ("loaded", "tensors", "kept", "left", "missing")} == {
        "loaded": 9, "tensors": 11, "kept": 2, "left": 2, "missing": 0,
    }  # fmt: skip
