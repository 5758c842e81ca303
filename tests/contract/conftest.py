"""The kinds of storage that the one suite is run against. Another kind is another line in `PLACES`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from relight.storage.backends.base import Backend
from relight.storage.backends.open import open_backend

_SEEN_BY_ALL_PROCESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "local": (),
    "s3 on SeaweedFS": ("weed",),
    "s3 on moto": ("moto_server",),
}
"""Each with the programs that it needs."""

PLACES: Final = {**_SEEN_BY_ALL_PROCESSES, "memory": ()}


def _params(places: Mapping[str, tuple[str, ...]]) -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.needs(*needed)], id=name) for name, needed in places.items()]


def _new_url(request: pytest.FixtureRequest) -> str:
    """Empty storage of its own."""
    if request.param == "local":
        folder: Path = request.getfixturevalue("tmp_path")
        return str(folder / "runs" / "digits")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/run"
    server = request.getfixturevalue("seaweed" if "SeaweedFS" in request.param else "moto_s3")
    for name, value in server.environment.items():
        request.getfixturevalue("monkeypatch").setenv(name, value)
    return f"s3://bucket/{uuid.uuid4().hex}/run"


@pytest.fixture(params=_params(PLACES))
def url(request: pytest.FixtureRequest) -> str:
    return _new_url(request)


@pytest.fixture(params=_params(_SEEN_BY_ALL_PROCESSES))
def shared_url(request: pytest.FixtureRequest) -> str:
    """Storage that other processes see too."""
    return _new_url(request)


@pytest.fixture
def backend(url: str) -> Backend:
    return open_backend(url)
