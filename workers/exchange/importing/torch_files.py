"""A file that `torch.save` has written. It is a pickle: what is more than tensors, numbers and containers is code."""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from ...errors import NotImported
from .content import Content

_CODE: Final = re.compile(r"GLOBAL (\S+)|TorchScript")
_NUMPY: Final = ("numpy.core.multiarray", "numpy._core.multiarray")

_HARMLESS: Final[list[Any]] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *{type(np.dtype(code)) for code in np.typecodes["AllFloat"] + np.typecodes["AllInteger"] + "?"},
    *[(np.float64(0).__reduce__()[0], f"{home}.scalar") for home in _NUMPY],
    *[(np.empty(0).__reduce__()[0], f"{home}._reconstruct") for home in _NUMPY],
]
"""What is often beside the tensors and is data alone: a loss as NumPy's number, a script's options."""


def read_torch(path: Path, *, trusted: bool) -> Content:
    """What is in the file. Where torch can do that, the tensors stay in it until they are read.

    Raises:
        NotImported: it is not whole, or cannot be read without running code from it and is not `trusted`.
    """
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"  # What torch wrote before version 1.6 is none, and cannot be mapped.

    def load(*, weights_only: bool) -> Any:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore", UserWarning)  # That it may be a TorchScript program: an error follows.
            return torch.load(path, map_location="cpu", weights_only=weights_only, mmap=is_archive)  # noqa: TID251 -- without trust it runs no code

    try:
        found = load(weights_only=True)
    except Exception as error:  # noqa: BLE001 -- whatever a broken pickle raises; all of it is told
        refusal = _refusal(str(error) or type(error).__name__, path)
        if not (trusted and _CODE.search(str(error))):
            raise NotImported(refusal) from None
        found = _trusted(lambda: load(weights_only=False), path)
    if isinstance(found, nn.Module):
        return Content(found.state_dict(), str(path), "a whole model")
    if not isinstance(found, Mapping):
        raise NotImported(f"{path} holds a {type(found).__name__}, and no state dict (names with their tensors)")
    return Content({str(key): _plain(value) for key, value in found.items()}, str(path), "torch")


def _trusted(load: Callable[[], Any], path: Path) -> Any:
    """Runs what code the file says."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # As `python -m` does: the model's class is next to where it is used.
    try:
        return load()
    except (ImportError, AttributeError) as error:
        raise NotImported(
            f"{path} names a class that cannot be found from here: {error}. Start in the folder of the code that it "
            "was saved with; or write the state dict there, which needs no class: torch.save(model.state_dict(), FILE)"
        ) from None


def _plain(value: Any) -> Any:
    """The state of an object that was saved as it is, which only a trusted file can hold."""
    is_object = not isinstance(value, Mapping | torch.Tensor) and callable(getattr(value, "state_dict", None))
    return value.state_dict() if is_object else value


def _refusal(said: str, path: Path) -> str:
    found = _CODE.search(said)
    if found is None:
        lines = said.rpartition("WeightsUnpickler error:")[2].strip().splitlines()
        return f"{path} is not a whole file of torch's: {lines[0] if lines else said}"
    return (
        f"{path} holds more than tensors and numbers, a {found.group(1) or 'TorchScript program'}: to read a whole "
        "model or other objects is to run the code that the file names, whoever wrote it. If you trust where it comes "
        "from, add --trust-pickle; else write what has no code, where the model is: "
        "torch.save(model.state_dict(), FILE)"
    )
