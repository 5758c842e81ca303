"""Where training stood when a file was written: the epoch, the step and the loss, as far as it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from ...errors import NotImported
from . import kinds, optimizers
from .wishes import Wishes

_LIGHTNING: Final = "pytorch-lightning_version"

Facts = dict[str, Any]


def facts(
    parts: Mapping[str, tuple[str, Any]], tree: Mapping[str, Any], before: Mapping[str, Any] | None
) -> tuple[Facts, list[str]]:
    """What a checkpoint keeps of it, and what the user should know. `before`: what an export of ours says of it.

    Raises:
        NotImported: a number counts nothing.
    """
    found: Facts = {"epoch": 0, "step": 0, "samples": 0, "loss": None, "metrics": {}, **(before or {})}
    epoch = found["epoch"]
    for name in ("epoch", "step"):
        if name in parts:
            found[name] = _count(*parts[name])
    if "loss" in parts:
        found["loss"] = float(_number(parts["loss"][1]))
    if (done := _epochs_done(tree)) is not None:
        found["epoch"] = done
    if found["epoch"] != epoch:
        found["samples"] = 0
    notes = []
    if "step" not in parts and before is None and (counted := _counted(parts)):
        found["step"] = counted
        notes.append(f"the step, {counted}, is what the optimizer has counted; --step N says another")
    return found, notes


def as_wished(found: Mapping[str, Any], wishes: Wishes) -> Facts:
    step = {} if wishes.step is None else {"step": wishes.step}
    epoch = {} if wishes.epoch is None else {"epoch": wishes.epoch, "samples": 0}
    return {**found, **step, **epoch}


def _counted(parts: Mapping[str, tuple[str, Any]]) -> int:
    states = [kinds.tree(value) for part, (_, value) in parts.items() if part.partition("/")[0] == optimizers.KEY]
    found = [optimizers.steps(state) for state in states if kinds.is_optimizer(state)]
    return max((steps for steps in found if steps is not None), default=0)


def _count(key: str, value: Any) -> int:
    number = _number(value)
    if number != int(number) or number < 0:
        raise NotImported(f"{key} is {number}, which counts nothing. To leave it out: --without {key}")
    return int(number)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


def _epochs_done(tree: Mapping[str, Any]) -> int | None:
    """By Lightning's own books: its `epoch` is that of the last batch, whether or not it was over."""
    node: Any = tree.get("loops") if _LIGHTNING in tree else None
    for key in ("fit_loop", "epoch_progress", "current", "processed"):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if type(node) is int and node >= 0 else None
