"""Optimizer state by parameter name instead of by number, exactly, both ways.

`Optimizer.state_dict` numbers the parameters, so state would silently move when their order changes; and
`load_state_dict` casts it to the parameter's dtype, which would round float32 moments of bfloat16 weights. Here a name
is a name and a dtype stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from ...storage.shards import Piece
from ..errors import NotCaptured
from .geometry import is_sharded
from .placing import Make, Target, can_hold, new_tensor, tensor_like

_DECOUPLED = "decoupled_weight_decay"
_TELLING = frozenset(
    {
        "alpha",
        "betas",
        "beta2_decay",
        "centered",
        "dampening",
        "etas",
        "lambd",
        "lr_decay",
        "momentum",
        "momentum_decay",
        "nesterov",
        "ns_coefficients",
        "rho",
        "step_sizes",
    }
)
"""Options that not all of torch's optimizers have, and that no scheduler adds."""


def named_state(optimizer: Optimizer, names: Mapping[torch.Tensor, str]) -> dict[str, Any]:
    """The optimizer's state dict with names in place of numbers, and the class it belongs to.

    A parameter that has no state yet has none in the result either.
    """
    by_number = _names_by_number(optimizer, names)
    document = optimizer.state_dict()
    groups = [
        {**group, "params": [by_number[number] for number in group["params"]]} for group in document["param_groups"]
    ]
    state = {by_number.get(key, key): value for key, value in document["state"].items()}
    return {"class": type(optimizer).__qualname__, "state": state, "param_groups": groups}


def load_named_state(optimizer: Optimizer, saved: Mapping[str, Any], names: Mapping[torch.Tensor, str]) -> None:
    """Give the optimizer the state that `named_state` returned, bit by bit. Check with `mismatches` before."""
    numbers = {name: number for number, name in _names_by_number(optimizer, names).items()}
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in saved["param_groups"]]
    state = {numbers.get(name, name): value for name, value in saved["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    _undo_casts(optimizer, saved["state"], names)


def state_targets(optimizer: Optimizer, key: str, names: Mapping[torch.Tensor, str]) -> Make:
    """Into what each tensor of the state saved as `key` is to be copied, by the name it has and any of its pieces.

    Into the live one, where there is one of the same kind: fresh memory costs more than the copy. Else into a new one
    where `load_state_dict` wants it, so that it need not be moved, and sharded as its parameter is; what lies elsewhere
    in the end (the step counts of fused kernels) is moved by torch. `names` are the parameters'.
    """
    parameters = {name: parameter for parameter, name in names.items()}

    def target(saved_as: str, piece: Piece) -> Target:
        name, _, entry = saved_as.removeprefix(f"{key}/state/").rpartition("/")
        parameter = parameters.get(name)
        if parameter is None:
            return new_tensor(saved_as, piece)
        live = optimizer.state[parameter].get(entry) if parameter in optimizer.state else None
        if can_hold(live, piece) and live.is_contiguous():
            return Target(live, is_new=False)
        if is_sharded(parameter):
            return tensor_like(parameter, piece)
        device = torch.device("cpu") if entry == "step" else parameter.device
        return new_tensor(saved_as, piece, device)

    return target


def mismatches(optimizer: Optimizer, saved: Mapping[str, Any], names: Mapping[torch.Tensor, str]) -> list[str]:
    """Why the saved state does not fit this optimizer; empty when it does. The tensors in `saved` are not looked at."""
    found = []
    if saved["class"] is None:
        found += _unlike(optimizer, saved)
    elif saved["class"] != type(optimizer).__qualname__:
        found.append(f"the checkpoint is of a {saved['class']}, this is a {type(optimizer).__qualname__}")
    live = [[names.get(parameter) for parameter in group["params"]] for group in optimizer.param_groups]
    stored = [list(group["params"]) for group in saved["param_groups"]]
    if len(live) != len(stored):
        found.append(f"the checkpoint has {len(stored)} parameter groups, this one {len(live)}")
    for index, (ours, theirs) in enumerate(zip(live, stored, strict=False)):
        if ours != theirs:
            differing = sorted(set(map(str, ours)) ^ set(map(str, theirs)))
            what = ", ".join(differing[:5]) or "their order"
            found.append(f"parameter group {index} differs in {what}")
    return found


def _unlike(optimizer: Optimizer, saved: Mapping[str, Any]) -> list[str]:
    """A file from elsewhere does not say which class its optimizer was of. Its options do."""
    kind = type(optimizer).__qualname__
    problems = []
    for group in saved["param_groups"]:
        if differing := sorted((group.keys() ^ optimizer.defaults.keys()) & _TELLING):
            problems.append(f"{', '.join(differing)}: not the options of a {kind}, so it is of another optimizer")
        elif _DECOUPLED in group and group[_DECOUPLED] != optimizer.defaults.get(_DECOUPLED, group[_DECOUPLED]):
            problems.append(
                f"{_DECOUPLED} is {group[_DECOUPLED]}, unlike a {kind}'s: of Adam and AdamW it is the other"
            )
    return list(dict.fromkeys(problems))


def _names_by_number(optimizer: Optimizer, names: Mapping[torch.Tensor, str]) -> dict[int, str]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        if parameter not in names:
            message = (
                f"the optimizer's parameter {number} (shape {tuple(parameter.shape)}) is not a parameter of the model, "
                "so it has no name to be saved under; register it in the model"
            )
            raise NotCaptured(message)
    return {number: names[parameter] for number, parameter in enumerate(parameters)}


def _undo_casts(optimizer: Optimizer, saved: Mapping[str, Any], names: Mapping[torch.Tensor, str]) -> None:
    for parameter, state in optimizer.state.items():
        exact = saved.get(names.get(parameter, ""), {})
        for key, value in state.items():
            kept = exact.get(key)
            if isinstance(value, torch.Tensor) and isinstance(kept, torch.Tensor) and value.dtype != kept.dtype:
                state[key] = kept.to(value.device)
