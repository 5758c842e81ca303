"""One zygote for the whole suite, and a launcher for each case."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from relight.orchestrator.forking.group import Group
from relight.tests.orchestrator.launching import Launched


@pytest.fixture(scope="session")
def group() -> Iterator[Group]:
    group = Group(os.environ | {"OMP_NUM_THREADS": "1"})
    yield group
    group.close()


@pytest.fixture
def launched(group: Group, tmp_path: Path) -> Launched:
    return Launched(group, tmp_path, journal=tmp_path / "journal.jsonl")
