"""From what `init_from` says to an opened source, the same one on all ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import torch
from torch import nn

from ....configs.initial import is_weights_name
from ....storage.backends.open import open_backend
from ....storage.boxes import Box
from ....storage.catalog import Catalog
from ....storage.manifest import Manifest
from ....storage.target import split_target
from ...errors import BadWeights
from ..collective import Circle
from .agreeing import agreed
from .fetching import fetch_file, once_per_host
from .run_source import RunSource
from .safetensors_source import SafetensorsSource
from .tensors import Described, Source
from .torch_source import TorchSource

_TORCH: Final = (".pt", ".pth", ".bin", ".ckpt")
_INDEX: Final = ".index.json"
_SUFFIXES: Final = (".safetensors", _INDEX, *_TORCH)
_IN_FOLDERS: Final = ("model.safetensors.index.json", "model.safetensors")
"""How Hugging Face's libraries name what they keep in a folder."""


def open_source(source: str, model: nn.Module | None, circle: Circle, keep: ExitStack) -> Source:
    """A collective. What is opened stays so as long as `keep`; `model` helps to understand torchvision's bare names.

    Raises:
        BadWeights, StorageTrouble: on all ranks alike.
    """
    choice: dict[str, str] = json.loads(circle.tell(agreed(circle, lambda: _choose(source, circle)).encode()))
    if "run" in choice:
        manifest = Manifest.model_validate_json(choice["manifest"])
        return agreed(circle, lambda: RunSource(open_backend(choice["run"]), manifest))
    if "weights" in choice:
        from .torchvision_weights import cached, find_weights  # Seconds of imports that others need not pay for.

        weights = agreed(circle, lambda: find_weights(source, model))
        path = once_per_host(circle, lambda: cached(weights))
        return agreed(circle, lambda: TorchSource(path, f"{weights} ({path})"))
    title = choice["file"]
    if "://" in title:
        path = once_per_host(circle, lambda: fetch_file(source, keep))
        return agreed(circle, lambda: _open_file(path, title))
    return agreed(circle, lambda: open_index(title) if title.endswith(_INDEX) else _open_file(title, title))


def _choose(source: str, circle: Circle) -> str:
    """Rank 0 alone looks, and says what it is: the newest checkpoint of a run may be another one a moment later."""
    return "" if circle.rank else json.dumps(_look_at(source))


def _look_at(source: str) -> dict[str, str]:
    if is_weights_name(source):
        return {"weights": source}
    is_remote = "://" in source and not source.startswith(("file://", "local://"))
    place = source.partition("?")[0] if is_remote else _local(source)
    if place.endswith(_SUFFIXES) and not Path(place).is_dir():
        if is_remote and place.endswith(_INDEX):
            raise BadWeights(f"init_from: {place} names other files, which are only read from a local folder: copy it")
        return {"file": place}
    if not is_remote and (file := next((it for name in _IN_FOLDERS if (it := Path(place) / name).is_file()), None)):
        return {"file": str(file)}
    url, step = split_target(source)
    if not is_remote and Path(_local(url)).is_file():
        raise BadWeights(f"init_from: {source} is a file, of a kind that its name does not say: {', '.join(_SUFFIXES)}")
    checkpoint = Catalog(open_backend(url)).find(step)
    return {"run": url, "manifest": checkpoint.manifest.model_dump_json()}


def _local(source: str) -> str:
    return str(Path(urlsplit(source).path if "://" in source else source).expanduser())


def _open_file(path: str, title: str) -> Source:
    if not Path(path).is_file():
        raise BadWeights(f"init_from: there is no file {path}")
    return TorchSource(path, title) if title.endswith(_TORCH) else SafetensorsSource(path, title)


def open_index(path: str) -> Source:
    """The files that an index names, which lie beside it: {"weight_map": {TENSOR: FILE}}."""
    try:
        files: Mapping[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(map(str, files.values())))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadWeights(
            f"{path} is not an index: it must be JSON with a weight_map from tensors to files ({error!r})"
        ) from None
    if outside := [name for name in names if PurePosixPath(name).name != name]:
        raise BadWeights(f"{path} names files that do not lie beside it: {', '.join(outside)}")
    folder = Path(path).parent
    return Several(path, files, {name: _open_file(str(folder / name), str(folder / name)) for name in names})


class Several:
    """One source of several: `files` says which tensor is in which of `sources`."""

    def __init__(self, title: str, files: Mapping[str, str], sources: Mapping[str, Source]) -> None:
        self.title = title
        self._sources = {name: sources[file] for name, file in files.items()}
        lacking = [name for name, source in self._sources.items() if name not in source.described]
        if lacking:
            raise BadWeights(f"{title} says that {lacking[0]} is in {files[lacking[0]]}, and it is not")
        self.described: Mapping[str, Described] = {
            name: source.described[name] for name, source in self._sources.items()
        }

    def read(self, name: str, box: Box) -> torch.Tensor:
        return self._sources[name].read(name, box)
