"""Runs that several tests compare with, and seeded choices."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from relight.tests.e2e.running import Run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that every disturbed one must equal. It keeps steps 30, 40, 50, 60 and 64."""
    run = Run(tmp_path_factory.mktemp("undisturbed"), "checkpoint.keep_last=5")
    assert run.finish() == 0, run.text
    return run


@pytest.fixture
def dice(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> random.Random:
    """Random choices; the seed is printed, and `RELIGHT_SEED` is not needed to repeat one: put it in a test."""
    seed = random.SystemRandom().randrange(2**32)
    with capsys.disabled():
        print(f"\n{request.node.name}: seed {seed}")
    return random.Random(seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
