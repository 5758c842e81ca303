"""Optimizer state by name, exactly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from relight.workers.checkpoint.optimizers import load_named_state, mismatches, named_state
from relight.workers.checkpoint.state import Parts
from relight.workers.errors import NotCaptured


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        model(torch.randn(5, 4).to(next(model.parameters()).dtype)).float().square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
        lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True, momentum=0.5),
    ],
)
def test_an_optimizer_that_was_restored_goes_on_bit_by_bit(make: object) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    twin = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer, other = make(model.parameters()), make(twin.parameters())  # type: ignore[operator]
    trained(model, optimizer)
    saved = named_state(optimizer, Parts(model=model).parameter_names())
    twin.load_state_dict(model.state_dict())
    assert mismatches(other, saved, Parts(model=twin).parameter_names()) == []
    load_named_state(other, copy.deepcopy(saved), Parts(model=twin).parameter_names())
    trained(model, optimizer)
    trained(twin, other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_float32_moments_of_bfloat16_weights_are_not_rounded() -> None:
    model = nn.Linear(4, 1).bfloat16()
    optimizer = torch.optim.AdamW(model.parameters())
    trained(model, optimizer)
    exact = torch.full((1, 4), 1 / 3)  # float32, and no bfloat16
    optimizer.state[model.weight]["exp_avg"] = exact
    twin = nn.Linear(4, 1).bfloat16()
    other = torch.optim.AdamW(twin.parameters())
    load_named_state(
        other, named_state(optimizer, Parts(model=model).parameter_names()), Parts(model=twin).parameter_names()
    )
    restored = other.state[twin.weight]["exp_avg"]
    assert restored.dtype == torch.float32
    assert torch.equal(restored, exact)


def test_a_parameter_without_state_has_none_after_a_restore() -> None:
    model = nn.ModuleDict({"used": nn.Linear(4, 1), "unused": nn.Linear(4, 1)})
    optimizer = torch.optim.AdamW(model.parameters())
    model["used"](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    saved = named_state(optimizer, Parts(model=model).parameter_names())
    assert sorted(saved["state"]) == ["used.bias", "used.weight"]
    twin = nn.ModuleDict({"used": nn.Linear(4, 1), "unused": nn.Linear(4, 1)})
    other = torch.optim.AdamW(twin.parameters())
    load_named_state(other, copy.deepcopy(saved), Parts(model=twin).parameter_names())
    assert twin["unused"].weight not in other.state


def test_what_does_not_fit_is_named() -> None:
    model = nn.Linear(4, 1)
    saved = named_state(torch.optim.SGD(model.parameters(), lr=0.1), Parts(model=model).parameter_names())
    names = Parts(model=model).parameter_names()
    assert mismatches(torch.optim.AdamW(model.parameters()), saved, names) == [
        "the checkpoint is of a SGD, this is a AdamW"
    ]
    groups: list[dict[str, Any]] = [{"params": [model.weight]}, {"params": [model.bias]}]
    assert mismatches(torch.optim.SGD(groups, lr=0.1), saved, names) == [
        "the checkpoint has 1 parameter groups, this one 2",
        "parameter group 0 differs in bias",
    ]
    assert mismatches(torch.optim.SGD([model.bias, model.weight], lr=0.1), saved, names) == [
        "parameter group 0 differs in their order"
    ]


def test_a_parameter_outside_the_model_is_refused() -> None:
    model, stray = nn.Linear(4, 1), nn.Parameter(torch.ones(3))
    with pytest.raises(NotCaptured) as caught:
        named_state(torch.optim.SGD([*model.parameters(), stray], lr=0.1), Parts(model=model).parameter_names())
    assert "the optimizer's parameter 2 (shape (3,)) is not a parameter of the model" in str(caught.value)
