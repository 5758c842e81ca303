"""A file that `torch.save` has written as a source. It is a pickle: only what holds tensors alone is read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, Final

import torch

from ....storage.boxes import Box
from ...errors import BadWeights
from .tensors import Described

_HOMES: Final = ("state_dict", "model_state_dict", "model")
"""Where people keep the model's state dict beside the optimizer's and more."""

_CODE: Final = re.compile(r"GLOBAL (\S+)|TorchScript")
_SHOWN: Final = 8


class TorchSource:
    """The state dict in a .pt or .pth file. Its bytes stay in the file until they are read, where torch can do that."""

    def __init__(self, path: str, title: str) -> None:
        """Raises BadWeights when it cannot be read without running code, or there is no state dict in it."""
        content = _load(path, title)
        home = next((key for key in _HOMES if _is_state(content.get(key))), None)
        state = content if home is None else content[home]
        if not _is_state(state):
            raise BadWeights(_no_state(content, title))
        self.title = title if home is None else f"{title} (under {home!r} in it)"
        self._tensors = {name: tensor.detach() for name, tensor in state.items() if _is_plain(tensor)}
        self.described = {name: Described(tensor.dtype, tuple(tensor.shape)) for name, tensor in self._tensors.items()}

    def read(self, name: str, box: Box) -> torch.Tensor:
        part: torch.Tensor = self._tensors[name][box.slices]
        return part


def _load(path: str, title: str) -> Mapping[str, Any]:
    with open(path, "rb") as file:  # noqa: PTH123 -- it may be another process's descriptor
        is_archive = file.read(2) == b"PK"  # What torch wrote before version 1.6 is none, and cannot be mapped.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # That it may be a TorchScript program: an error follows.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)  # noqa: TID251 -- runs no code: tensors, numbers and containers only
    except Exception as error:  # noqa: BLE001 -- whatever a broken pickle raises; all of it is told
        raise BadWeights(_unreadable(str(error) or type(error).__name__, title)) from None
    if not isinstance(content, Mapping):
        raise BadWeights(f"{title} holds a {type(content).__name__}, not a state dict (names with their tensors)")
    return content


def _unreadable(said: str, title: str) -> str:
    found = _CODE.search(said)
    if found is None:
        reason = said.rpartition("WeightsUnpickler error:")[2].strip().splitlines()[0]
        return f"{title} is not a whole file of torch's: {reason}"
    return (
        f"{title} cannot be read without running code from it: it holds {found.group(1) or 'a TorchScript program'}. "
        "Where you trust it, load it yourself and write the state dict alone: torch.save(model.state_dict(), FILE)"
    )


def _is_state(value: object) -> bool:
    """Names with tensors; other things may stand between them."""
    return (
        isinstance(value, Mapping)
        and any(isinstance(each, torch.Tensor) for each in value.values())
        and all(isinstance(key, str) for key in value)
    )


def _is_plain(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized


def _no_state(content: Mapping[Any, Any], title: str) -> str:
    keys = [str(key) for key in content]
    shown = ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
    return (
        f"{title} holds no state dict, by itself or under {', '.join(_HOMES)}; it holds: {shown or 'nothing'}. "
        "Write the state dict alone: torch.save(model.state_dict(), FILE)"
    )
