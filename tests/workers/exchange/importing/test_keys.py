"""Keys are taken for what they are spelt as; what is nearly spelt so is asked about, and nothing is dropped unsaid."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from relight.workers.errors import NotImported
from relight.workers.exchange.importing.keys import SPELLINGS, TREES, Recognised, check_options, recognise

WEIGHTS = {"weight": torch.zeros(2)}
OPTIMIZER: dict[str, Any] = {"state": {}, "param_groups": []}


def found(content: dict[str, Any], renames: dict[str, str] | None = None, without: frozenset[str] = frozenset()) -> Any:
    return recognise(content, renames or {}, without)


def keys(recognised: Recognised) -> dict[str, str]:
    return {part: key for part, (key, _) in recognised.parts.items()}


def test_the_tutorials_keys_are_known() -> None:
    content = {"epoch": 3, "model_state_dict": WEIGHTS, "optimizer_state_dict": OPTIMIZER, "loss": 0.5}
    assert keys(found(content)) == {
        "model": "model_state_dict",
        "optimizer": "optimizer_state_dict",
        "epoch": "epoch",
        "loss": "loss",
    }


@pytest.mark.parametrize(("part", "key"), [(part, key) for part, spelt in SPELLINGS.items() for key in spelt])
def test_every_usual_spelling_is_known(part: str, key: str) -> None:
    value: Any = {"model": WEIGHTS, "optimizer": OPTIMIZER}.get(part, {"last_epoch": 1} if part in TREES else 3)
    assert keys(found({key: value})) == {part: key}


@pytest.mark.parametrize(
    ("key", "usual", "value"),
    [
        ("optimazer_state_dict", "optimizer_state_dict", OPTIMIZER),
        ("optimiser_state_dict", "optimizer_state_dict", OPTIMIZER),
        ("optimizer_sate_dict", "optimizer_state_dict", OPTIMIZER),
        ("model_state_dcit", "model_state_dict", WEIGHTS),
        ("modle_state_dict", "model_state_dict", WEIGHTS),
        ("sheduler_state_dict", "scheduler_state_dict", {"last_epoch": 1}),
        ("lr_sheduler", "scheduler_state_dict", {"last_epoch": 1}),
        ("gobal_step", "global_step", 7),
        ("epochs", "epoch", 7),
    ],
)
def test_a_misspelt_key_is_refused_with_its_name_and_the_ways_out(key: str, usual: str, value: Any) -> None:
    with pytest.raises(NotImported) as refused:
        found({key: value})
    assert str(refused.value) == (
        f"the key {key!r} is not known: did you mean {usual}? To take it for that: --rename-key {key}={usual}; "
        f"to leave it out: --without {key}"
    )
    part = next(part for part, spelt in SPELLINGS.items() if usual in spelt)
    assert keys(found({key: value}, renames={key: usual})) == {part: key}
    assert found({key: value}, without=frozenset({key})) == Recognised({}, ())


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "epochs": 10},
        {"optimizer": OPTIMIZER, "optimizer2": OPTIMIZER},
        {"model": WEIGHTS, "models": ["resnet"]},
        {"state_dict": WEIGHTS, "model": "resnet18"},
        {"model_state_dict": WEIGHTS, "ema_model_state_dict": WEIGHTS},
        {"loss": 0.1, "losses": [0.3, 0.2]},
        {"step": 4, "args": {"lr": 0.1}},
        {"model": WEIGHTS, "optimizer": {"name": "sgd", "lr": 0.1}},
        {"model": WEIGHTS, "opts": {"lr": 0.1}},
    ],
)
def test_what_only_resembles_a_part_that_is_there_is_listed(content: dict[str, Any]) -> None:
    recognised = found(content)
    assert len(recognised.parts) == 1
    assert recognised.unknown == (list(content)[1],)


def test_a_name_under_model_is_no_model() -> None:
    assert keys(found({"model": "resnet18", "state_dict": WEIGHTS})) == {"model": "state_dict"}


def test_one_optimizer_in_a_list_is_taken_as_lightning_writes_it() -> None:
    assert keys(found({"optimizer_states": [OPTIMIZER]})) == {"optimizer": "optimizer_states"}
    assert found({"optimizer_states": [OPTIMIZER, OPTIMIZER]}).unknown == ("optimizer_states",)


@pytest.mark.parametrize(
    ("renames", "without", "option"),
    [
        ({"optimazer": "optimizer"}, frozenset(), "--rename-key optimazer=optimizer"),
        ({}, frozenset({"optimazer"}), "--without optimazer"),
    ],
)
def test_an_option_that_names_nothing_is_refused(renames: dict[str, str], without: frozenset[str], option: str) -> None:
    with pytest.raises(NotImported) as refused:
        check_options(renames, without, ["optimizer", "model"], ["ema"])
    assert str(refused.value) == (
        f"{option}: there is no such key in the file. Did you mean optimizer? It holds: optimizer, model, ema"
    )


def test_a_part_is_left_out_by_its_own_name_whatever_its_key() -> None:
    recognised = found({"model": WEIGHTS, "optim_state_dict": OPTIMIZER}, without=frozenset({"optimizer"}))
    assert keys(recognised) == {"model": "model"}
    assert recognised.unknown == ()
