"""Numbers get the names that shapes prove, or none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from relight.workers.errors import NotImported
from relight.workers.exchange.importing.ordering import Model, names_of

SHAPES = {"a.weight": (3, 2), "a.bias": (3,), "b.weight": (5, 3), "b.bias": (5,), "b.count": ()}
MODEL = Model(SHAPES, [name for name in SHAPES if name != "b.count"])


def document(*groups: list[Any], of: list[str] | None = None, **extra: Any) -> dict[str, Any]:
    """An AdamW's state, of these parameters in the order of its numbers."""
    numbers = [number for group in groups for number in group]
    names = MODEL.parameters if of is None else of
    return {
        "state": {
            number: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(SHAPES[name])}
            for number, name in zip(numbers, names, strict=True)
            if name in SHAPES
        },
        "param_groups": [{"params": group, **extra} for group in groups],
    }


def names(found: dict[str, Any]) -> dict[Any, str]:
    return names_of(found, MODEL, lambda name: name.removeprefix("module."), "optimizer")[0]


def refusal(found: dict[str, Any]) -> str:
    with pytest.raises(NotImported) as refused:
        names(found)
    return str(refused.value)


def test_numbers_follow_the_models_order() -> None:
    assert names(document([0, 1, 2, 3])) == dict(enumerate(MODEL.parameters))


def test_groups_that_follow_one_another_are_taken_in_order() -> None:
    assert names(document([0, 1], [2, 3])) == dict(enumerate(MODEL.parameters))


def test_groups_by_kind_are_told_apart_by_their_shapes() -> None:
    found = names(document([0, 1], [2, 3], of=["a.weight", "b.weight", "a.bias", "b.bias"]))
    assert found == {0: "a.weight", 1: "b.weight", 2: "a.bias", 3: "b.bias"}


def test_another_order_is_found_where_every_shape_is_one_parameters() -> None:
    order = ["a.bias", "a.weight", "b.weight", "b.bias"]
    assert names(document([0, 1, 2, 3], of=order)) == dict(enumerate(order))


def test_names_that_the_file_has_go_before_any_order() -> None:
    order = ["b.bias", "a.bias", "b.weight", "a.weight"]
    found = document([0, 1, 2, 3], of=order, param_names=[f"module.{name}" for name in order])
    assert names(found) == dict(enumerate(order))
    own = document(["module.a.bias"], of=["a.bias"])
    assert names(own) == {"module.a.bias": "a.bias"}


def test_parameters_without_moments_take_their_place_in_the_order() -> None:
    found = document([0, 1, 2, 3])
    del found["state"][1]
    assert names(found) == dict(enumerate(MODEL.parameters))


def test_another_order_than_the_models_is_refused_with_the_ways_out() -> None:
    model = Model({"a": (3, 2), "b": (3,), "c": (3,)}, ["a", "b", "c"])
    found = {
        "state": {n: {"exp_avg": torch.zeros(size)} for n, size in enumerate([(3,), (3, 2), (3,)])},
        "param_groups": [{"params": [0, 1, 2]}],
    }
    with pytest.raises(NotImported) as refused:
        names_of(found, model, str, "optimizer")
    assert str(refused.value) == (
        "the optimizer keeps [3] for its parameter 0, and in the model's order that is a of shape [3, 2]: it "
        "cannot be known which is which. Name the model, --model MODULE:CALLABLE, if its parameters have another order "
        "than its state dict; save with an optimizer that was given model.named_parameters(), which keeps the names; "
        "or leave it out: --without optimizer"
    )


def test_another_number_of_parameters_is_refused_with_the_ways_out() -> None:
    said = refusal(document([0, 1], of=["a.weight", "a.bias"]))
    assert said.startswith(
        "the optimizer numbers 2 parameters and the model has 4, so it cannot be known which is which"
    )
    assert "--model MODULE:CALLABLE" in said


def test_groups_that_share_a_shape_cannot_be_told_apart() -> None:
    model = Model({"a": (2,), "b": (3,), "c": (2,)}, ["a", "b", "c"])
    found = {
        "state": {n: {"momentum_buffer": torch.zeros(size)} for n, size in enumerate((2, 2, 3))},
        "param_groups": [{"params": [0]}, {"params": [1, 2]}],
    }
    with pytest.raises(NotImported, match="cannot be known which is which"):
        names_of(found, model, str, "optimizer")


def test_names_and_shapes_of_another_model_are_refused() -> None:
    assert refusal(document([0], of=["a.bias"], param_names=["c.bias"])) == (
        "the optimizer is of a parameter c.bias, which is not in the model. Leave it out: --without optimizer"
    )
    assert refusal(document([0], of=["a.bias"], param_names=["b.bias"])) == (
        "the optimizer keeps [3] for b.bias, which has shape [5]: it is of another model. "
        "Leave it out: --without optimizer"
    )


def test_a_state_that_no_group_has_is_refused() -> None:
    found = document([0, 1, 2, 3])
    found["state"][9] = found["state"][0]
    assert refusal(found) == "the optimizer has state of 9, which is in none of its groups: it is not whole"
