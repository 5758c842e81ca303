"""Text that is on every machine: the source of Python's own standard library."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import BadTask

_NOT_THE_LIBRARY: Final = ("site-packages", "dist-packages", "test", "tests", "*_test", "__pycache__")
_OF_THIS_BUILD: Final = ("config-*", "_sysconfigdata*", "sitecustomize.py")
"""Differ between two builds of the same Python."""
_EVERY_NTH_VALIDATES: Final = 16


class Windows(Dataset[Tensor]):
    """A text in windows of `context` bytes and the one that follows, `[context + 1]` uint8; no two windows overlap in
    what is to be foretold. What does not fill a window is left out.
    """

    def __init__(self, text: bytes, context: int) -> None:
        self.text = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)
        self.context = context

    def __len__(self) -> int:
        return max(0, len(self.text) - 1) // self.context

    def __getitem__(self, index: int) -> Tensor:
        start = index * self.context
        return self.text[start : start + self.context + 1]


def library_text(*, validation: bool, max_bytes: int | None = None, root: Path | None = None) -> bytes:
    """The library's files, one after the other, in the order of their names; every 16th of them validates.

    The same on all machines with the same Python. `max_bytes` cuts it off; `root` is this Python's library unless
    given. Raises BadTask where there is no library to be read.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    names = sorted(_names(root))
    if not names:
        raise BadTask(f"there is no source text in {root}: this Python comes without its standard library's .py files")
    chosen = (name for number, name in enumerate(names) if (number % _EVERY_NTH_VALIDATES == 0) == validation)
    text = bytearray()
    for name in chosen:
        if max_bytes is not None and len(text) >= max_bytes:
            break
        text += (root / name).read_bytes()
    return bytes(text[:max_bytes])


def _names(root: Path) -> Iterator[str]:
    for place, folders, files in os.walk(root):
        folders[:] = [folder for folder in folders if _belongs(folder)]
        inside = Path(place).relative_to(root)
        yield from ((inside / file).as_posix() for file in files if file.endswith(".py") and _belongs(file))


def _belongs(name: str) -> bool:
    return not any(fnmatch(name, pattern) for pattern in (*_NOT_THE_LIBRARY, *_OF_THIS_BUILD))
