"""What a value in a file may be, by what is in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch


def tree(value: Any) -> Any:
    """A part's state; Lightning keeps lists of optimizers and schedulers, here of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def is_number(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, Real) and not isinstance(value, bool)


def is_weights(value: object) -> bool:
    """Names with tensors; other things may stand between them."""
    return (
        isinstance(value, Mapping)
        and any(isinstance(each, torch.Tensor) for each in value.values())
        and all(isinstance(key, str) for key in value)
    )


def are_weights(value: object) -> bool:
    """One model's weights, or several models' by their names."""
    return is_weights(value) or _all(is_weights, value)


def is_optimizer(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("state"), Mapping)
        and isinstance(value.get("param_groups"), list)
        and all(isinstance(group, Mapping) and "params" in group for group in value["param_groups"])
        and all(isinstance(entries, Mapping) for entries in value["state"].values())
    )


def is_flattened(value: object) -> bool:
    """An optimizer as DCP's users flatten it for pipelines: "state.NAME.exp_avg", "param_groups.NAME.lr"."""
    return _some(value) and all(str(key).startswith(("state.", "param_groups.")) for key in value)  # type: ignore[attr-defined]


def are_optimizers(value: object) -> bool:
    """One optimizer's state, or several by their names."""
    return is_optimizer(value) or is_flattened(value) or _all(is_optimizer, value)


def is_state(value: object) -> bool:
    """Of anything that has one."""
    return _some(value)


def _some(value: object) -> bool:
    return isinstance(value, Mapping) and len(value) > 0


def _all(is_one: Any, value: object) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(map(is_one, value.values()))
