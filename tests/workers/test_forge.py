"""Ranks that tests play with: what goes wrong in one of them is told, and no later test hears of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch.distributed as dist

from relight.tests.workers.ranks import play
from relight.workers.parallel import World

HERE = "relight.tests.workers.test_forge"


def failing(world: World) -> None:
    """The others wait for the rank that fails."""
    if world.rank == 1:
        raise LookupError("planted")
    dist.barrier()


def telling(world: World) -> list[str]:
    return [os.environ["TOLD"], str(Path.cwd())]


def test_a_rank_that_fails_ends_the_others_and_is_told_and_the_next_ones_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError) as failed:
        play(f"{HERE}:failing", 2, tmp_path)
    assert "LookupError: planted" in str(failed.value)
    assert "a rank has ended with 1" in str(failed.value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLD", "then")
    assert play(f"{HERE}:telling", 2, tmp_path) == [["then", str(tmp_path)]] * 2
