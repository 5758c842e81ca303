"""What a folder of torch.distributed.checkpoint says it holds: a pickle, read without running code."""

from __future__ import annotations

import pickle  # noqa: TID251 -- the format is one; nothing but what is listed here is ever called from it
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)

from ....storage.boxes import Box, tile
from ....storage.shards import Piece
from ...checkpoint.dtypes import NAMES
from ...errors import NotImported

FILE: Final = ".metadata"

_ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "torch.distributed.checkpoint.metadata": frozenset(
        {
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        }
    ),
    "torch.distributed.checkpoint.filesystem": frozenset({"_StorageInfo", "_StoragePrefix"}),
    "torch.serialization": frozenset({"_get_layout"}),
    "torch": frozenset({"Size", *(str(dtype).removeprefix("torch.") for dtype in NAMES)}),
    "collections": frozenset({"OrderedDict"}),
}
"""DCP's own classes, and what they are made of. All of them are data: to build one calls nothing else."""

_PATHS: Final = frozenset({"pathlib", "pathlib._local"})


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where one box of a tensor, or one object, lies: a file of torch's in the bytes [start, start + length)."""

    path: Path
    start: int
    length: int
    box: Box


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor's dtype and shape and all its boxes; or an object (`dtype` is None), which is one stretch."""

    dtype: torch.dtype | None
    shape: tuple[int, ...]
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything by its name, and the place in the nested state dict that each had, if it was nested."""

    stored: Mapping[str, Stored]
    places: Mapping[str, tuple[str | int, ...]]


def read_catalogue(folder: Path) -> Catalogue:
    """What there is. No tensor is read.

    Raises:
        NotImported: the metadata is no such thing, names classes that are none of DCP's, or files outside the folder.
    """
    path = folder / FILE
    metadata = _unpickled(path)
    try:
        infos = {(index.fqn, index.offset): info for index, info in metadata.storage_data.items()}
        stored = {name: _stored(folder, name, entry, infos) for name, entry in metadata.state_dict_metadata.items()}
        places = {str(name): tuple(place) for name, place in (metadata.planner_data or {}).items()}
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise NotImported(f"{path} does not say where everything is: {type(error).__name__}: {error}") from None
    return Catalogue(stored, places)


def _unpickled(path: Path) -> Metadata:
    try:
        with path.open("rb") as file:
            found = _Restricted(file).load()
    except NotImported as error:
        raise NotImported(f"{path} {error}") from None
    except Exception as error:  # noqa: BLE001 -- whatever a broken pickle raises; all of it is told
        raise NotImported(f"{path} cannot be read as DCP's metadata: {error or type(error).__name__}") from None
    if not isinstance(found, Metadata):
        raise NotImported(f"{path} holds a {type(found).__name__}, and not DCP's metadata")
    return found


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _PATHS:
            return PurePosixPath  # Where it was written: of no use here.
        if name not in _ALLOWED.get(module, ()):
            raise NotImported(
                f"names {module}.{name}, which is none of DCP's own classes, and is not read: it may run code"
            )
        return super().find_class(module, name)


def _stored(folder: Path, name: str, entry: object, infos: Mapping[Any, Any]) -> Stored:
    if isinstance(entry, BytesStorageMetadata):
        return Stored(None, (), (_stretch(folder, infos[MetadataIndex(name).fqn, None], Box((), ())),))
    if not isinstance(entry, TensorStorageMetadata):
        raise TypeError(f"{name} is a {type(entry).__name__}")
    dtype, shape = entry.properties.dtype, tuple(entry.size)
    if dtype not in NAMES:
        raise NotImported(f"{name} in {folder} is of {dtype}, which cannot be kept: convert it where it was written")
    boxes = [Box(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in entry.chunks]
    if not tile([Piece(name, NAMES[dtype], box.shape, shape, box.offset) for box in boxes]):
        raise ValueError(f"the parts of {name} do not make up the whole")
    return Stored(dtype, shape, tuple(_tensor_stretches(folder, name, boxes, infos)))


def _tensor_stretches(folder: Path, name: str, boxes: list[Box], infos: Mapping[Any, Any]) -> Iterator[Stretch]:
    for box in boxes:
        yield _stretch(folder, infos[name, torch.Size(box.offset)], box)


def _stretch(folder: Path, info: Any, box: Box) -> Stretch:
    inside = PurePosixPath(info.relative_path)
    if inside.is_absolute() or ".." in inside.parts:
        raise NotImported(f"{folder / FILE} names a file outside its folder: {inside}")
    if getattr(info, "transform_descriptors", None):
        raise NotImported(f"{folder / inside} is compressed or otherwise transformed: save it once without transforms")
    if info.offset < 0 or info.length < 0:
        raise ValueError(f"{inside} has no bytes [{info.offset}, {info.offset + info.length})")
    return Stretch(folder / inside, info.offset, info.length, box)
