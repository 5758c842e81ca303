"""Several ranks save and resume together, also another number of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog
from relight.storage.reading import ShardReader
from relight.tests.workers.ranks import play

SCENES = "relight.tests.workers.checkpoint.worlds"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A run that two ranks have saved, and their answers."""
    directory = tmp_path_factory.mktemp("worlds")
    return directory / "run", play(f"{SCENES}:saving", 2, directory)


def test_the_ranks_share_the_work(saved: tuple[Path, list[Any]]) -> None:
    shares = saved[1][0]["shares"]
    assert max(shares) / sum(shares) < 0.55
    assert min(saved[1][0]["tensors"]) > 1


def test_a_script_that_wraps_its_own_model_gets_steps_that_repeat(tmp_path: Path) -> None:
    assert play(f"{SCENES}:settled", 3, tmp_path) == [True] * 3


@pytest.fixture(scope="module")
def resumed(saved: tuple[Path, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What two ranks found when they resumed."""
    directory = tmp_path_factory.mktemp("resumed")
    shutil.copytree(saved[0], directory / "run")
    return play(f"{SCENES}:resuming", 2, directory)


def test_the_statistics_of_batch_norm_are_rank_0_s_as_in_ddp(saved: tuple[Path, list[Any]], resumed: list[Any]) -> None:
    _, answers = saved
    assert answers[0]["running mean"] != answers[1]["running mean"]
    for answer in resumed:
        assert answer["running mean"] == answers[0]["running mean"]


def test_every_rank_s_own_generators_go_on(saved: tuple[Path, list[Any]], resumed: list[Any]) -> None:
    numbers = [answer["next random"] for answer in resumed]
    assert numbers == [answer["next random"] for answer in saved[1]]
    assert numbers[0] != numbers[1]


@pytest.mark.parametrize("world_size", [1, 3])
def test_another_number_of_ranks_resumes_the_same_global_state(
    saved: tuple[Path, list[Any]], tmp_path: Path, world_size: int
) -> None:
    shutil.copytree(saved[0], tmp_path / "run")
    answers = play(f"{SCENES}:resuming", world_size, tmp_path)
    assert [answer["step"] for answer in answers] == [3] * world_size
    assert contents(tmp_path / "run", world_size) == contents(saved[0], 2)


def contents(url: Path, world_size: int) -> dict[str, bytes]:
    """The global tensors of the newest checkpoint, row by row."""
    backend = open_backend(str(url))
    manifest = Catalog(backend).find().manifest
    assert manifest.world_size == world_size
    rows: dict[tuple[str, int], bytes] = {}
    for rank in range(world_size):
        reader = ShardReader(backend, manifest, rank)
        for placed in reader.layout().placed:
            piece = placed.piece
            if not piece.name.startswith("rank-"):
                first = piece.offset[0] if piece.offset else 0
                rows[piece.name, first] = reader.read_range(placed.start, placed.start + piece.size)
    return {name: b"".join(rows[key] for key in sorted(rows) if key[0] == name) for name, _ in rows}


def test_every_rank_refuses_alike(saved: tuple[Path, list[Any]], tmp_path: Path) -> None:
    """A model that does not fit, and what only rank 0 can know: that the storage is another run's."""
    shutil.copytree(saved[0], tmp_path / "run")
    first, second = play(f"{SCENES}:refused", 2, tmp_path)
    assert first == second
    mismatch, other_run = first
    assert "StateMismatch" in mismatch
    assert "model/0.weight: shape [300, 100] in the checkpoint, [301, 100] here" in mismatch
    assert "StorageRefused" in other_run
    assert "holds another run (name=worlds; this one has name=another)" in other_run
