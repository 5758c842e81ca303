"""A file in the safetensors format as a source, read by the library of that name. It holds no code."""

from __future__ import annotations

from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open

from ....storage.boxes import Box
from ...errors import BadWeights
from ..dtypes import DTYPES
from .tensors import Described


class SafetensorsSource:
    def __init__(self, path: str, title: str) -> None:
        """Raises BadWeights when it is no such file, or holds a dtype that is not known."""
        self.title = title
        try:
            self._file = cast(Any, safe_open(path, framework="pt", device="cpu"))
        except SafetensorError as error:
            raise BadWeights(f"{title} is not a whole safetensors file: {error}") from None
        self.described = {name: self._describe(name) for name in self._file.keys()}  # noqa: SIM118 -- it is no mapping

    def _describe(self, name: str) -> Described:
        tensor = self._file.get_slice(name)
        dtype = DTYPES.get(tensor.get_dtype())
        if dtype is None:
            raise BadWeights(f"{name} in {self.title} is of {tensor.get_dtype()}, which is not served")
        return Described(dtype, tuple(tensor.get_shape()))

    def read(self, name: str, box: Box) -> torch.Tensor:
        shape = self.described[name].shape
        found: torch.Tensor = (
            self._file.get_tensor(name) if box.shape == shape else self._file.get_slice(name)[box.slices]
        )
        return found
