"""The kinds of storage that the one suite is run against. Another kind is another line in `PLACES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from relight.storage.backends.base import Backend
from relight.storage.backends.open import open_backend

PLACES: Final[Mapping[str, Callable[[Path], str]]] = {
    "local": lambda folder: str(folder / "runs" / "digits"),
}


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Empty storage of its own."""
    return PLACES[request.param](tmp_path)


@pytest.fixture
def backend(url: str) -> Backend:
    return open_backend(url)
