"""The items of a load plan as parts of stored tensors, and back: what is asked for, and what the planner is given."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem

from ...storage.boxes import Box
from ..checkpoint.dtypes import DTYPES
from ..errors import StateMismatch
from .fetching import Fetched, Request
from .opened import Opened
from .values import decoded, pickled, tensors_of


def requests(opened: Opened, plan: LoadPlan) -> list[Request]:
    """The boxes of stored tensors that a plan's items are made of.

    Raises StateMismatch where there is no such tensor or value: the plan may have been made with another checkpoint.
    """
    found: list[Request] = []
    for item in plan.items:
        if item.type is LoadItemType.BYTE_IO:
            found += [(name, _whole(opened, name)) for name in tensors_of(_node(opened, item))]
        else:
            found.append(_request(opened, item))
    return found


def deliver(opened: Opened, fetched: Fetched, plan: LoadPlan, planner: LoadPlanner) -> None:
    """Give the planner what its items ask for, which was fetched."""
    for item in plan.items:
        if item.type is LoadItemType.BYTE_IO:
            planner.load_bytes(item, pickled(_value(opened, fetched, item)))
        else:
            _load_tensor(opened, fetched, item, planner)


def _request(opened: Opened, item: ReadItem) -> Request:
    """By its place in the whole tensor, whatever pieces that is stored in."""
    name, offset = item.storage_index.fqn, item.storage_index.offset
    assert offset is not None
    box = Box(tuple(a + b for a, b in zip(offset, item.storage_offsets, strict=True)), tuple(item.lengths))
    entry = opened.entries.get(name)
    if entry is None or entry.tensor is None or not _lies_in(box, _whole(opened, entry.tensor)):
        raise StateMismatch(f"step {opened.manifest.step} has no {name} of this shape. Load another step")
    return entry.tensor, box


def _lies_in(box: Box, whole: Box) -> bool:
    return len(box.shape) == len(whole.shape) and all(
        start + length <= end for start, length, end in zip(box.offset, box.shape, whole.shape, strict=True)
    )


def _whole(opened: Opened, name: str) -> Box:
    return Box.whole(opened.parts[name][0][1].piece.global_shape)


def _node(opened: Opened, item: ReadItem) -> Any:
    entry = opened.entries.get(item.storage_index.fqn)
    if entry is None or entry.tensor is not None:
        raise StateMismatch(f"step {opened.manifest.step} has no value {item.storage_index.fqn}. Load another step")
    return entry.node


def _value(opened: Opened, fetched: Fetched, item: ReadItem) -> Any:
    node = _node(opened, item)
    tensors = {}
    for name in tensors_of(node):
        whole = _whole(opened, name)
        tensors[name] = torch.empty(whole.shape, dtype=DTYPES[opened.parts[name][0][1].piece.dtype])
        fetched.into(tensors[name], (name, whole))
    return decoded(node, tensors)


def _load_tensor(opened: Opened, fetched: Fetched, item: ReadItem, planner: LoadPlanner) -> None:
    request = _request(opened, item)
    target = planner.resolve_tensor(item).detach()
    if tuple(target.shape) != request[1].shape:
        raise StateMismatch(
            f"{item.storage_index.fqn}: {list(request[1].shape)} are read into {list(target.shape)}: the planner's two "
            "answers do not fit together"
        )
    fetched.into(target, request)
    planner.commit_tensor(item, target)
