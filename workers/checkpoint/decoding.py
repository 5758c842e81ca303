"""From strict JSON back to the state dict that it spells (see `tree`). Free of torch: tensors are what it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any


def decode(node: Any, tensors: Mapping[str, Any]) -> Any:
    """The value that `encode` was given; its tensors are taken from `tensors`."""
    if isinstance(node, list):
        return [decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        ((spelling, inner),) = node.items()
        if spelling in _READ:
            return _READ[spelling](inner, tensors)
    return {key: decode(item, tensors) for key, item in node.items()}


def _pairs(pairs: list[tuple[Any, Any]], tensors: Mapping[str, Any]) -> dict[Any, Any]:
    return {key: decode(item, tensors) for key, item in pairs}


_READ: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "$tensor": lambda name, tensors: tensors[name],
    "$numpy": lambda name, tensors: tensors[name].numpy(),
    "$bytes": lambda name, tensors: tensors[name].numpy().tobytes(),
    "$float": lambda text, _: float(text),
    "$tuple": lambda items, tensors: tuple(decode(item, tensors) for item in items),
    "$counter": lambda pairs, tensors: Counter(_pairs(pairs, tensors)),
    "$dict": _pairs,
}
