"""From a hand-written loop's file a run goes on as the loop would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import relight
from relight.tests.workers.exchange.importing.foreign import (
    FEATURES,
    OPTIMIZERS,
    ByHand,
    bring,
    make_model,
    saved,
    whole,
)
from relight.workers.checkpoint.checkpointer import Checkpointer
from relight.workers.errors import StateMismatch
from relight.workers.sampler import GlobalBatchSampler


def go_on(url: Path, job: ByHand, **parts: Any) -> Checkpointer:
    given = {"optimizer": job.optimizer, "scheduler": job.scheduler, **parts}
    checkpointer = relight.Checkpointer(str(url), model=job.model, **given)
    job.step = checkpointer.restore().step
    return checkpointer


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_next_losses_are_those_of_the_loop_that_was_never_left(tmp_path: Path, optimizer: str) -> None:
    loop = ByHand.begin(OPTIMIZERS[optimizer]).train(6)
    bring(saved(loop.general(), tmp_path / "loop.pt"), tmp_path / "run")
    ours = ByHand.begin(OPTIMIZERS[optimizer], seed=9)
    checkpointer = go_on(tmp_path / "run", ours)
    assert (checkpointer.progress.epoch, checkpointer.progress.loss) == (1, loop.losses[-1])
    if ours.step == 0:  # Of plain SGD nothing counts the steps.
        ours.step = 6
    ours.train(6)
    assert ours.losses == loop.train(6).losses[6:]
    assert all(map(torch.equal, ours.model.state_dict().values(), loop.model.state_dict().values()))


def test_the_first_save_after_it_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    loop = ByHand.begin().train(6)
    bring(saved(loop.general(), tmp_path / "loop.pt"), tmp_path / "run")
    assert whole(tmp_path / "run").state["imported"] == {
        "file": "loop.pt",
        "format": "a general checkpoint",
        "held": ["model", "optimizer", "scheduler"],
        "left_out": [],
    }
    ours = ByHand.begin(seed=9)
    checkpointer = go_on(tmp_path / "run", ours)
    ours.train(1)
    checkpointer.step()
    checkpointer.finish()
    found = whole(tmp_path / "run")
    assert found.manifest.step == 7
    assert "imported" not in found.state
    assert found.state["optimizer"]["class"] == "AdamW"


def test_what_the_file_does_not_hold_begins_anew_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = ByHand.begin().train(6)
    content = loop.general()
    del content["scheduler_state_dict"]
    bring(saved(content, tmp_path / "loop.pt"), tmp_path / "run")
    data = TensorDataset(torch.zeros(16, FEATURES))
    sampler = GlobalBatchSampler(len(data), batch_size=4, rank=0, world_size=1, seed=0)
    ours = ByHand.begin(seed=9)
    checkpointer = go_on(tmp_path / "run", ours, loader=DataLoader(data, batch_sampler=sampler))
    assert (
        "relight: this checkpoint was imported from loop.pt, which does not hold all: scheduler, the position in the "
        "data (at the beginning of epoch 1) and the random generators begin anew\n"
    ) in capsys.readouterr().err
    assert next(checkpointer.progress.epochs(2)) == 1
    assert (sampler.epoch, sampler.samples, ours.scheduler.last_epoch) == (1, 0, 0)


def test_each_ranks_own_position_begins_anew_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bring(saved(ByHand.begin().train(2).general(), tmp_path / "loop.pt"), tmp_path / "run")
    loader = DataLoader(TensorDataset(torch.zeros(16, FEATURES)), batch_size=4, shuffle=True)
    go_on(tmp_path / "run", ByHand.begin(seed=9), loader=loader)
    assert "the position in the data (at the beginning of epoch 0) and the random generators" in capsys.readouterr().err
    assert len(list(loader)) == 4


def test_weights_alone_begin_a_run(tmp_path: Path) -> None:
    loop = ByHand.begin().train(6)
    bring(saved(loop.model.state_dict(), tmp_path / "weights.pth"), tmp_path / "run")
    ours = ByHand.begin(seed=9)
    checkpointer = go_on(tmp_path / "run", ours)
    assert all(map(torch.equal, ours.model.state_dict().values(), loop.model.state_dict().values()))
    assert (checkpointer.progress.step, len(ours.optimizer.state)) == (0, 0)


def test_an_ordinary_checkpoint_stays_as_strict_as_ever(tmp_path: Path) -> None:
    job = ByHand.begin()
    checkpointer = go_on(tmp_path / "run", job, scheduler=None)
    job.train(1)
    checkpointer.step()
    checkpointer.finish()
    with pytest.raises(StateMismatch) as refused:
        go_on(tmp_path / "run", ByHand.begin())
    assert "scheduler: given here, but not in the checkpoint" in str(refused.value)
    assert "Put model, optimizer and data back as they were" in str(refused.value)


def refusal(url: Path, job: ByHand, **parts: Any) -> str:
    with pytest.raises(StateMismatch) as refused:
        go_on(url, job, **parts)
    return str(refused.value)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    loop = ByHand.begin().train(2)
    bring(saved(loop.general(), tmp_path / "loop.pt"), tmp_path / "run")
    other = ByHand.begin()
    other.model[4] = nn.Linear(3, 2)  # type: ignore[operator]
    said = refusal(
        tmp_path / "run", ByHand(other.model, torch.optim.AdamW(other.model.parameters()), other.scheduler, [])
    )
    assert "model/4.weight: shape [1, 3] in the checkpoint, [2, 3] here" in said
    assert "import it again, to another URL, with --without NAME" in said


def test_another_optimizer_is_refused_by_its_options(tmp_path: Path) -> None:
    bring(saved(ByHand.begin().train(2).general(), tmp_path / "loop.pt"), tmp_path / "run")
    said = refusal(tmp_path / "run", ByHand.begin(OPTIMIZERS["SGD with momentum"]))
    assert "optimizer: betas, dampening, momentum, nesterov: not the options of a SGD" in said
    adam = ByHand.begin(lambda model: torch.optim.Adam(model.parameters()))
    assert "decoupled_weight_decay is True, unlike a Adam's" in refusal(tmp_path / "run", adam)


def test_what_the_file_holds_and_the_run_has_not_is_refused_and_may_be_left_out(tmp_path: Path) -> None:
    file = saved(ByHand.begin().train(2).general(), tmp_path / "loop.pt")
    bring(file, tmp_path / "run")
    assert "scheduler: in the checkpoint, but not given here" in refusal(
        tmp_path / "run", ByHand.begin(), scheduler=None
    )
    bring(file, tmp_path / "other", without=frozenset({"scheduler"}))
    assert go_on(tmp_path / "other", ByHand.begin(), scheduler=None).progress.step == 2


def test_several_models_and_optimizers_are_taken_by_name(tmp_path: Path) -> None:
    first, second = ByHand.begin(seed=1).train(2), ByHand.begin(OPTIMIZERS["SGD with momentum"], seed=2).train(3)
    content = {
        "netG": first.model.state_dict(),
        "netD": second.model.state_dict(),
        "optG": first.optimizer.state_dict(),
        "optD": second.optimizer.state_dict(),
    }
    renames = {"netG": "model/G", "netD": "model/D", "optG": "optimizer/G", "optD": "optimizer/D"}
    bring(saved(content, tmp_path / "gan.pt"), tmp_path / "run", renames=renames)
    ours = {"G": make_model(), "D": make_model()}
    made = {"G": OPTIMIZERS["AdamW"](ours["G"]), "D": OPTIMIZERS["SGD with momentum"](ours["D"])}
    relight.Checkpointer(str(tmp_path / "run"), model=ours, optimizer=made).restore()
    assert all(map(torch.equal, ours["D"].state_dict().values(), second.model.state_dict().values()))
    momenta = [made["D"].state[it]["momentum_buffer"] for it in ours["D"].parameters()]
    assert all(
        map(torch.equal, momenta, [second.optimizer.state[it]["momentum_buffer"] for it in second.model.parameters()])
    )


def test_a_part_of_ones_own_is_kept_under_the_name_that_it_is_given(tmp_path: Path) -> None:
    loop = ByHand.begin().train(2)
    weight = torch.full((2,), 3.0)
    shadow = {"decay": 0.9, "weight": weight}
    file = saved({**loop.general(), "ema_state_dict": shadow}, tmp_path / "loop.pt")
    assert bring(file, tmp_path / "left").left_out == ("ema_state_dict",)
    bring(file, tmp_path / "run", renames={"ema_state_dict": "ema"})

    class Average:
        found: dict[str, Any]

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.found = state_dict

    average = Average()
    go_on(tmp_path / "run", ByHand.begin(), extra={"ema": average})
    assert average.found["decay"] == 0.9
    assert torch.equal(average.found["weight"], weight)
