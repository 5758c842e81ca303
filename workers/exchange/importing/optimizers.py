"""An optimizer's state in a file, as a checkpoint has it: by the parameters' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...errors import NotImported
from . import kinds, models
from .ordering import Model, names_of

KEY = "optimizer"


def several(value: Any, key: str) -> dict[str, Mapping[str, Any]]:
    """The optimizers by the names that they are saved under: one, or several.

    Raises:
        NotImported: it is no optimizer's state.
    """
    if kinds.is_optimizer(value):
        return {KEY: value}
    if kinds.is_flattened(value):
        return {KEY: _unflattened(value)}
    if kinds.are_optimizers(value):
        return {f"{KEY}/{name}": inner for name, inner in value.items()}
    raise NotImported(
        f"what is under {key} is no optimizer's state_dict (state and param_groups). To leave it out: --without {key}"
    )


def named(
    document: Mapping[str, Any], model: Model, live: nn.Module | None, plain: Callable[[str], str], part: str
) -> tuple[dict[str, Any], str]:
    """The state by name, as `checkpoint.optimizers.named_state` gives it, and how the names were found.

    Which class it is of a file does not say: None. Raises NotImported.
    """
    numbers = sum(len(group["params"]) for group in document["param_groups"])
    if live is not None and numbers != len(model.parameters) and numbers == len(trained := models.trained(live)):
        model = replace(model, parameters=trained)
    names, how = names_of(document, model, plain, part)
    groups = [
        {
            **{key: value for key, value in group.items() if key != "param_names"},
            "params": [names[it] for it in group["params"]],
        }
        for group in document["param_groups"]
    ]
    state = {names[it]: dict(entries) for it, entries in document["state"].items()}
    return {"class": document.get("class"), "state": state, "param_groups": groups}, how


def steps(document: Mapping[str, Any]) -> int | None:
    """How many steps it has counted itself; None where it counts none."""
    counts = [entries["step"] for entries in document["state"].values() if kinds.is_number(entries.get("step"))]
    return max((int(count) for count in counts), default=None)


def _unflattened(value: Mapping[str, Any]) -> dict[str, Any]:
    """Groups are those parameters whose options are alike."""
    state: dict[str, dict[str, Any]] = {}
    options: dict[str, dict[str, Any]] = {}
    for key, entry in value.items():
        home, _, rest = key.partition(".")
        name, _, what = rest.rpartition(".")
        (state if home == "state" else options).setdefault(name, {})[what] = entry
    groups: list[dict[str, Any]] = []
    for name, own in options.items():
        group = next((it for it in groups if _alike({k: v for k, v in it.items() if k != "params"}, own)), None)
        if group is None:
            groups.append(group := {**own, "params": []})
        group["params"].append(name)
    return {"state": state, "param_groups": groups}


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key])
        if isinstance(value, torch.Tensor) and isinstance(other[key], torch.Tensor)
        else value == other[key]
        for key, value in one.items()
    )
