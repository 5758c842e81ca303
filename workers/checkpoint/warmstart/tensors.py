"""What is known of a tensor before it is read, and what can be read: the waist between the sources and the loading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from ....storage.boxes import Box


@dataclass(frozen=True, slots=True)
class Described:
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The dtype, as a message names it."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Source(Protocol):
    """Tensors by name, each of which can be read in part, and only when it is asked for. Opened on every rank."""

    @property
    def title(self) -> str:
        """What and where it is, as the report names it."""

    @property
    def described(self) -> Mapping[str, Described]:
        """All tensors, in the order in which they are read best."""

    def read(self, name: str, box: Box) -> torch.Tensor:
        """That part of the tensor, on the CPU; it is not written to. `box` is not empty.

        Raises:
            BadWeights: the bytes cannot be read, or are not what was written.
            StorageError: as the backend does.
        """
