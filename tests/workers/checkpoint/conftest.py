"""A saved run to resume from, and generators that start alike: jobs draw from the global ones."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from relight.tests.workers.checkpoint.jobs import Job


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Job(tmp_path / "run").train(until=6).checkpointer._session.saver.close()  # type: ignore[union-attr]
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def _generators() -> None:
    """Jobs draw from the global generators."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
