"""What is no tensor, as JSON and tensors: nothing that lies in storage is ever unpickled."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 -- the name of an error alone
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem

from ..checkpoint.dtypes import NAMES
from ..checkpoint.tree import Tensors, decode, encode
from ..errors import NotCaptured

_BYTES_IO: Final = "$bytesio"
_HOLD_TENSORS: Final = {"$tensor", "$numpy", "$bytes", _BYTES_IO}


def encoded(planner: SavePlanner, item: WriteItem, name: str, tensors: Tensors) -> Any:
    """The value behind a BYTE_IO item as strict JSON; its tensors are added to `tensors` under its name, or below.

    Raises:
        NotCaptured: it cannot be expressed; the message names it and the way out.
    """
    value = _value(planner, item)
    if isinstance(value, io.BytesIO):
        node = encode(value.getvalue(), name, tensors)
        return {_BYTES_IO: node["$bytes"]}
    node = encode(value, name, tensors)
    for place in _names(node):
        _refuse_strange(tensors[place], item.index.fqn)
    return node


def decoded(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The value that `encoded` was given."""
    if isinstance(node, dict) and set(node) == {_BYTES_IO}:
        return io.BytesIO(tensors[node[_BYTES_IO]].numpy().tobytes())
    return decode(node, tensors)


def tensors_of(node: Any) -> set[str]:
    """The names of the tensors that a value is made of."""
    return set(_names(node))


def pickled(value: Any) -> io.BytesIO:
    """What a load planner expects: bytes that torch.load takes, made here and now."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def _value(planner: SavePlanner, item: WriteItem) -> Any:
    """The object itself where DCP's own planner would only pickle it; else what a planner of one's own has made."""
    if isinstance(planner, DefaultSavePlanner) and not _is_overridden(planner, "resolve_data", "transform_object"):
        return planner.lookup_object(item.index)
    data = planner.resolve_data(item)
    assert isinstance(data, io.BytesIO)
    data.seek(0)
    try:
        # Bytes that this process has just made, and of them only plain types.
        return torch.load(data, weights_only=True)  # noqa: TID251
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).partition("\n")[0]
        message = (
            f"{item.index.fqn}: the planner has made bytes of it that cannot be read without running code ({first}). "
            "Have it torch.save numbers, strings, lists, dicts, bytes and tensors, or leave it out of the state dict"
        )
        raise NotCaptured(message) from None


def _is_overridden(planner: DefaultSavePlanner, *methods: str) -> bool:
    return any(getattr(type(planner), method) is not getattr(DefaultSavePlanner, method) for method in methods)


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _names(item)
    elif isinstance(node, dict):
        for key, item in node.items():
            if len(node) == 1 and key in _HOLD_TENSORS:
                yield item
            else:
                yield from _names(item)


def _refuse_strange(tensor: torch.Tensor, fqn: str) -> None:
    plain = type(tensor) in {torch.Tensor, torch.nn.Parameter} and tensor.layout is torch.strided
    if not plain or tensor.dtype not in NAMES:
        message = (
            f"{fqn} holds a {type(tensor).__qualname__} ({tensor.layout}, {tensor.dtype}) within what DCP takes for "
            "one value. Keep it in a dict of the state dict, where the planner sees it, as a plain tensor"
        )
        raise NotCaptured(message)
