"""A file becomes a run's first checkpoint: read, understood, laid out, and committed as every other is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError

from ....storage.arrangement import plan
from ....storage.backends.base import Backend
from ....storage.backends.open import open_backend
from ....storage.deposit import deposit, refuse_taken
from ....storage.manifest import Progress
from ....storage.shards import Piece, ShardLayout
from ...checkpoint.decoding import decode
from ...checkpoint.imported import MARK
from ...checkpoint.state import spec_of
from ...checkpoint.tree import Tensors
from ...errors import NotCaptured, NotImported
from .content import Content
from .dcp_folder import read_dcp
from .gathering import Gathered, gather
from .recognizing import Format, recognise
from .safetensors_files import read_safetensors
from .torch_files import read_torch
from .wishes import Imported, Wishes

_CHUNK_BYTES: Final = 16 << 20


def bring_in(file: str, url: str, wishes: Wishes) -> Imported:
    """Start a run at `url` with what is in `file`. Raises as `prepare` and `Prepared.commit` do."""
    return prepare(file, url, wishes).commit()


def prepare(file: str, url: str, wishes: Wishes) -> Prepared:
    """Read `file` and understand it. Nothing is written.

    Raises:
        NotImported: the file cannot be read or understood.
        StorageError: the URL holds a run, or cannot be asked.
        OSError: the file cannot be opened.
    """
    backend = open_backend(url)
    refuse_taken(backend)  # Before anything long.
    if "://" in file:
        raise NotImported(f"{file} is a URL: what is imported is a local file or folder, so copy it here first")
    path = Path(file).expanduser()
    return Prepared(gather(read(path, trusted=wishes.trusted), wishes), path, backend)


def read(path: Path, *, trusted: bool) -> Content:
    """What is in the file or folder. Raises as `prepare` does."""
    kind, place = recognise(path)
    if kind is Format.TORCH:
        return read_torch(place, trusted=trusted)
    if kind is Format.DCP:
        return read_dcp(place, trusted=trusted)
    return read_safetensors(place, is_index=kind is Format.INDEX)


class Prepared:
    """A checkpoint that could be written: laid out, its tensors still where they were found."""

    def __init__(self, found: Gathered, path: Path, backend: Backend) -> None:
        """Raises NotImported for what no checkpoint can hold."""
        self._found = found
        self._path = path
        self._backend = backend
        self._facts: dict[str, Any] = decode(found.state["progress"], {})
        self._progress = _record(self._facts, path)
        held = sorted(key for key in found.state if key != "progress")
        mark = {"file": path.name, "format": found.kind, "held": held, "left_out": sorted(found.left_out)}
        self._layout = _laid_out({**found.state, MARK: mark}, found.tensors, path)

    @property
    def size(self) -> int:
        """Bytes to be written."""
        return self._layout.size

    def commit(self, on_bytes: Callable[[int], object] = lambda _: None) -> Imported:
        """Make it the first checkpoint of a run. `on_bytes` is told of each stretch.

        Raises:
            StorageError: the URL holds a run, or cannot be written. Nothing is left there.
        """
        content = _content(self._layout, self._found.tensors, on_bytes)
        manifest = deposit(self._backend, self._layout, self._progress, content)
        return Imported(
            file=str(self._path),
            format=self._found.kind,
            url=self._backend.url,
            checkpoint=manifest.id.name,
            step=self._progress.step,
            epoch=self._progress.epoch,
            samples=self._progress.samples,
            loss=self._facts["loss"],
            bytes=self._layout.size,
            parts=self._found.parts,
            notes=tuple(self._found.notes),
            left_out=tuple(self._found.left_out),
        )


def _record(facts: Mapping[str, Any], path: Path) -> Progress:
    try:
        return Progress.model_validate(facts)
    except ValidationError as error:
        problem = error.errors()[0]
        raise NotImported(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def _laid_out(state: Mapping[str, Any], tensors: Tensors, path: Path) -> ShardLayout:
    """Raises NotImported for what no shard can hold."""
    try:
        specs = [spec_of(name, tensor) for name, tensor in tensors.items()]
        return plan([Piece.whole(spec.name, spec.dtype, spec.shape) for spec in specs], state)
    except (NotCaptured, ValueError) as error:
        raise NotImported(f"{path}: {error}") from None


def _content(layout: ShardLayout, tensors: Tensors, on_bytes: Callable[[int], object]) -> Iterator[memoryview]:
    """The tensors' bytes in the order of the file."""
    on_bytes(len(layout.header))
    for placed in layout.placed:
        if not placed.piece.size:
            continue
        data = memoryview(_bytes_of(tensors[placed.piece.name]).numpy().data)
        for start in range(0, len(data), _CHUNK_BYTES):
            stretch = data[start : start + _CHUNK_BYTES]
            yield stretch
            on_bytes(len(stretch))


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().resolve_conj().resolve_neg().reshape(-1).view(torch.uint8)
