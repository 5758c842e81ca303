"""The checkpoint that is exported: what is in it, and its bytes as they are asked for, counted for who watches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....storage.backends.base import Backend
from ....storage.manifest import Manifest
from ....storage.reading import ShardReader
from ....storage.shards import Piece
from ....storage.whole import RANK_PREFIX, Whole
from ...errors import NotExported
from . import content
from .formats import Watching, Wishes


class Source:
    """A committed checkpoint, every byte of which is proven when it is read; raises Damaged where it cannot be."""

    def __init__(self, backend: Backend, manifest: Manifest, watching: Watching) -> None:
        self._backend = backend
        self._manifest = manifest
        self._whole = Whole(backend, manifest)
        self._watching = watching

    @property
    def title(self) -> str:
        return f"{self._backend.url}@{self._manifest.step}"

    @property
    def state(self) -> Mapping[str, Any]:
        """The global JSON."""
        return self._whole.state

    def pieces(self, names: Collection[str]) -> dict[str, Piece]:
        return {name: self._whole.tensors[name] for name in names}

    def announce(self, names: Collection[str]) -> None:
        self._watching.on_total(sum(piece.size for piece in self.pieces(names).values()))

    def chunks(self, name: str) -> Iterator[memoryview]:
        for part in self._whole.chunks(name):
            yield part
            self._watching.on_bytes(part.nbytes)

    def own_state(self, rank: int) -> dict[str, Any]:
        """What one of the ranks that wrote it has kept of its own, beside the tensors."""
        state = ShardReader(self._backend, self._manifest, rank).layout().state
        own: dict[str, Any] = state.get(f"{RANK_PREFIX}{rank:05d}", {})
        return own

    def one_model(self, only: str | None) -> dict[str, Any]:
        """The encoded state dict of the model that is meant.

        Raises NotExported when several could be, or there is none of that name.
        """
        names = content.model_names(self.state)
        if names and only not in names:
            meant = f"none is called {only}" if only else "this format holds one"
            raise NotExported(f"{self.title} holds several models, and {meant}: add --only {' or --only '.join(names)}")
        if only is not None and not names:
            raise NotExported(f"{self.title} holds one model, which has no name: leave out --only {only}")
        return content.model_entries(self.state, only)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which stored tensors are read, and what writes them under a name that nobody else has."""

    names: Collection[str]
    write: Callable[[Path], None]


Planner = Callable[[Source, Wishes], Plan]
"""Raises NotExported, and Damaged."""
