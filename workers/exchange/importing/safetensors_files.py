"""Files in the safetensors format, one or several with their index. They hold no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ....storage.boxes import Box
from ...checkpoint.decoding import decode
from ...checkpoint.warmstart.opening import open_index
from ...checkpoint.warmstart.safetensors_source import SafetensorsSource
from ...checkpoint.warmstart.tensors import Source
from ...errors import BadWeights, NotImported
from ..exporting.content import tensor_names
from .content import Content

EXTRA: Final = "relight.model"
"""Where an export keeps what of a model's state is no tensor."""
_PLACE: Final = "model/"


def read_safetensors(path: Path, *, is_index: bool) -> Content:
    """The tensors by name. They stay in the file until they are read.

    Raises:
        NotImported: it is not whole, names what is not there, or holds a dtype that is not served.
    """
    try:
        source: Source = open_index(str(path)) if is_index else SafetensorsSource(str(path), str(path))
    except BadWeights as error:
        raise NotImported(str(error).removeprefix("init_from: ")) from None
    tensors: dict[str, Any] = {
        name: source.read(name, Box.whole(described.shape)) for name, described in source.described.items()
    }
    for file in _files(path) if is_index else [path]:
        if text := _metadata(file).get(EXTRA):
            tensors = _with_extra(tensors, json.loads(text))
    return Content(tensors, str(path), "safetensors")


def _files(index: Path) -> list[Path]:
    """Those that are safetensors: the Hub has indexes of torch's files, too."""
    files: Mapping[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    return [index.with_name(name) for name in sorted(set(files.values())) if name.endswith(".safetensors")]


def _metadata(path: Path) -> Mapping[str, str]:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    found: Mapping[str, str] = header.get("__metadata__") or {}
    return found


def _with_extra(tensors: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """With what a module keeps besides its tensors; tensors inside of that are no weights of their own."""
    inside = {name.removeprefix(_PLACE) for name in tensor_names(extra)}
    own = {_PLACE + name: tensor for name, tensor in tensors.items()}
    return {name: value for name, value in tensors.items() if name not in inside} | {
        name: decode(value, own) for name, value in extra.items()
    }
