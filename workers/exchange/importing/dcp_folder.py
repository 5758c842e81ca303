"""A folder of torch.distributed.checkpoint: its tensors by byte ranges, and its objects without their code."""

from __future__ import annotations

import io
import math
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch

from ...errors import NotImported
from .content import Content
from .dcp_metadata import Stored, Stretch, read_catalogue

_ALIGNMENT: Final = 64


def read_dcp(folder: Path, *, trusted: bool) -> Content:
    """The state dict as it was saved. Its tensors are put together in a file without a name, mapped into memory.

    Raises:
        NotImported: something is missing or broken, or an object needs code to be read and it is not `trusted`.
    """
    catalogue = read_catalogue(folder)
    memory = _Scratch(catalogue.stored.values())
    flat = {name: _read(name, stored, memory, trusted=trusted) for name, stored in catalogue.stored.items()}
    try:
        return Content(nested(flat, catalogue.places), str(folder), "DCP")
    except (TypeError, AttributeError):
        raise NotImported(
            f"{folder} says of its state dict that one thing is in another that is none: it was changed"
        ) from None


def nested(flat: Mapping[str, Any], places: Mapping[str, Sequence[str | int]]) -> dict[str, Any]:
    """The tree that DCP's planner has flattened; numbers in a place are a list's. Pure."""
    root: dict[Any, Any] = {}
    lists: list[tuple[dict[Any, Any], Any]] = []
    for name, value in flat.items():
        place = places.get(name, (name,))
        node = root
        for here, after in pairwise(place):
            if here not in node:
                node[here] = {}
                if isinstance(after, int):
                    lists.append((node, here))
            node = node[here]
        node[place[-1]] = value
    for holder, key in reversed(lists):  # The innermost first: they are made after what they are in.
        holder[key] = [holder[key][index] for index in sorted(holder[key])]
    return root


class _Scratch:
    """Tensors in a temporary file without a name, so that what is read need not fit into memory."""

    def __init__(self, stored: Any) -> None:
        self._end = 0
        total = sum(_aligned(_size(each)) for each in stored if each.dtype is not None)
        with tempfile.TemporaryFile(prefix="relight-") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, max(total, 1))
            except OSError as error:
                raise NotImported(
                    f"there is no room for {total} bytes of temporary files in {tempfile.gettempdir()} "
                    f"({error.strerror}): make room, or set TMPDIR to a folder that has it"
                ) from None
            self._map = mmap.mmap(file.fileno(), max(total, 1))

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        count = math.prod(shape)
        if not count:
            return torch.empty(shape, dtype=dtype)
        start, self._end = self._end, self._end + _aligned(count * dtype.itemsize)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start).view(shape)


def _read(name: str, stored: Stored, memory: _Scratch, *, trusted: bool) -> Any:
    if stored.dtype is None:
        return _load(name, stored.stretches[0], trusted=trusted)
    target = memory.tensor(stored.dtype, stored.shape)
    for stretch in stored.stretches:
        part = _load(name, stretch, trusted=False)
        if not isinstance(part, torch.Tensor) or tuple(part.shape) != stretch.box.shape:
            raise NotImported(f"{stretch.path} holds something else where {name} should be: it was changed or cut off")
        target[stretch.box.slices].copy_(part.detach())
    return target


def _load(name: str, stretch: Stretch, *, trusted: bool) -> Any:
    with stretch.path.open("rb") as file:
        file.seek(stretch.start)
        data = file.read(stretch.length)
    if len(data) < stretch.length:
        raise NotImported(f"{stretch.path} ends before {name} does: it is not whole")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=not trusted)  # noqa: TID251 -- without trust it runs no code
    except Exception as error:  # noqa: BLE001 -- whatever a broken pickle raises; all of it is told
        if "GLOBAL" in str(error):
            raise NotImported(
                f"{name} in {stretch.path} is an object that cannot be read without running code. If you trust where "
                f"it comes from, add --trust-pickle; else leave it out where it was saved"
            ) from None
        raise NotImported(f"{name} in {stretch.path} cannot be read: it was changed or cut off") from None


def _size(stored: Stored) -> int:
    assert stored.dtype is not None
    return math.prod(stored.shape) * stored.dtype.itemsize


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
