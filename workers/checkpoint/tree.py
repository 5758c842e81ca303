"""State dicts as JSON and tensors, without pickle.

A state dict is a tree of dicts, lists, tuples, numbers, strings and tensors. Tensors are taken out and stored as such
under the name of their place in the tree; what JSON lacks (tuples, integer keys, infinities) is spelled as an object
with one `$` key. What cannot be spelled is refused by name when it is saved, not when it is needed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..errors import NotCaptured
from .decoding import decode

__all__ = ["Tensors", "decode", "encode"]

Tensors = dict[str, torch.Tensor]


def encode(value: Any, name: str, tensors: Tensors) -> Any:
    """`value` as strict JSON; its tensors are added to `tensors` under `name/path/to/them`.

    Raises:
        NotCaptured: something in it is neither JSON nor a tensor; the message names its place.
    """
    if isinstance(value, np.generic):  # First, as np.float64 is a float.
        value = value.item()
    if value is None or type(value) in {bool, int, str}:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach()
        return {"$tensor": name}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value))
        return {"$numpy": name}
    if isinstance(value, (bytes, bytearray)):
        tensors[name] = torch.from_numpy(np.frombuffer(value, dtype=np.uint8).copy())
        return {"$bytes": name}
    return _container(value, name, tensors)


def _container(value: Any, name: str, tensors: Tensors) -> Any:
    if isinstance(value, list):
        return _items(value, name, tensors)
    if type(value) is tuple:
        return {"$tuple": _items(value, name, tensors)}
    if isinstance(value, Mapping):
        return _mapping(value, name, tensors)
    message = (
        f"{name} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be saved without "
        "pickle. Leave it out of state_dict(), or turn it into numbers, strings, lists, dicts and tensors there"
    )
    raise NotCaptured(message)


def _items(values: Any, name: str, tensors: Tensors) -> list[Any]:
    return [encode(item, f"{name}/{index}", tensors) for index, item in enumerate(values)]


def _mapping(value: Mapping[Any, Any], name: str, tensors: Tensors) -> Any:
    encoded = [(key, encode(item, f"{name}/{key}", tensors)) for key, item in value.items()]
    if isinstance(value, Counter):
        return {"$counter": [[key, count] for key, count in encoded]}
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return dict(encoded)
    if all(type(key) in {str, int, bool, float} for key in value):
        return {"$dict": [[key, item] for key, item in encoded]}
    message = f"{name} has keys that are neither strings nor numbers; use such keys in state_dict()"
    raise NotCaptured(message)
