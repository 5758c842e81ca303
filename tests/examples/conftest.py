"""Seeded choices."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def dice(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> random.Random:
    """Random choices; the seed is printed: put it here to repeat them."""
    seed = random.SystemRandom().randrange(2**32)
    with capsys.disabled():
        print(f"\n{request.node.name}: seed {seed}")
    return random.Random(seed)
