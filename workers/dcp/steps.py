"""Which steps there are, for code that used to look for folders."""

from __future__ import annotations

from ...storage.catalog import Catalog
from .lineage import backend_of


def newest_step(url: str) -> int | None:
    """The newest step that can be loaded from `url`; None where there is none. Raises StorageError.

    Ask it on one rank and tell the others: a moment later there may be another one.
    """
    newest = next(Catalog(backend_of(url)).committed(), None)
    return None if newest is None else newest.step
