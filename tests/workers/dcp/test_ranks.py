"""Several ranks save and load through torch.distributed.checkpoint, with Relight's checkpoints underneath."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from relight.storage.backends.open import open_backend
from relight.storage.catalog import Catalog, Standing
from relight.storage.verify import verify
from relight.storage.whole import Whole
from relight.tests.proxy import Fault, proxied
from relight.tests.servers import Server, environment
from relight.tests.workers.ranks import play

SCENES = "relight.tests.workers.dcp.scenes"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A run that four ranks of FSDP2 have saved, and what each of them had."""
    directory = tmp_path_factory.mktemp("fsdp")
    return directory / "run", play(f"{SCENES}:saving", 4, directory)


@pytest.mark.parametrize("world_size", [2, 4])
def test_what_four_ranks_of_fsdp2_save_other_worlds_load_equal(
    saved: tuple[Path, list[Any]], tmp_path: Path, world_size: int
) -> None:
    run, had = saved
    shutil.copytree(run, tmp_path / "run")
    assert play(f"{SCENES}:loading", world_size, tmp_path) == had[:world_size]


def test_it_is_an_ordinary_checkpoint_with_a_shard_for_each_rank(saved: tuple[Path, list[Any]]) -> None:
    backend = open_backend(str(saved[0]))
    manifest = Catalog(backend).find(3).manifest
    assert verify(backend, manifest) == []
    assert manifest.world_size == 4
    assert (saved[0] / "run.json").exists()


def test_its_json_is_the_whole_state_dict_whatever_rank_dcp_has_given_a_value(saved: tuple[Path, list[Any]]) -> None:
    backend = open_backend(str(saved[0]))
    state = Whole(backend, Catalog(backend).find(3).manifest).state
    assert state["model"]["1.bias"] == {"$tensor": "model/1.bias"}
    assert state["optimizer"]["param_groups"][0]["lr"] == 0.01
    assert state["train"] == {"step": 1, "names": {"$tuple": ["a", "b"]}, "tokens": {"$tensor": "train/tokens"}}
    assert {key for key in state if key.startswith("dcp:")} == {f"dcp:loader.rank{rank}" for rank in (1, 2, 3)}


def flip(path: Path, at: int) -> None:
    """One bit of a file, `at` bytes before its end."""
    with path.open("r+b") as file:
        file.seek(-at, 2)
        byte = file.read(1)[0]
        file.seek(-at, 2)
        file.write(bytes([byte ^ 1]))


def shard(run: Path, step: int, rank: int) -> Path:
    (found,) = run.glob(f"checkpoints/step-{step:012d}-*/rank-{rank:05d}-of-*.safetensors")
    return found


def test_a_flipped_bit_in_the_step_that_is_asked_for_is_an_error_on_all_ranks(
    saved: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    shutil.copytree(saved[0], tmp_path / "run")
    damaged = shard(tmp_path / "run", 3, rank=2)
    flip(damaged, at=1)
    for said in play(f"{SCENES}:refused_load", 2, tmp_path):
        assert said.startswith("True CheckpointException")
        assert f"{damaged.parent.name}/{damaged.name} is damaged: the checksum of block 0" in said


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with steps 1 and 2, of three ranks: one of them had nothing to write."""
    directory = tmp_path_factory.mktemp("two-steps")
    play(f"{SCENES}:two_steps", 3, directory)
    return directory / "run"


@pytest.mark.parametrize("damage", ["a flipped bit", "a shard that is gone", "a torn manifest"])
def test_where_the_newest_is_damaged_all_ranks_load_the_one_before(
    two_steps: Path, tmp_path: Path, damage: str
) -> None:
    shutil.copytree(two_steps, tmp_path / "run")
    path = max(
        (tmp_path / "run").glob("checkpoints/step-000000000002-*/rank-*"), key=lambda shard: shard.stat().st_size
    )
    if damage == "a flipped bit":
        flip(path, at=10)
    elif damage == "a shard that is gone":
        path.unlink()
    else:
        (path.parent / "manifest.json").write_bytes(b"{")
    assert play(f"{SCENES}:passing_over", 2, tmp_path) == [[1, 1], [1, 1, 1.0]]


def test_when_one_rank_fails_all_do_and_nothing_of_it_is_left_by_the_next_save(tmp_path: Path) -> None:
    answers = play(f"{SCENES}:failing", 2, tmp_path)
    for first, left, second, left_then, in_the_end in answers:
        assert (left, left_then, in_the_end) == (1, 1, 1)
        assert first.splitlines()[-1] == second.splitlines()[-1]
        assert "value1 is a relight.tests.workers.dcp.scenes.FailsToShow, which cannot be saved without pickle" in first
    listing = list(Catalog(open_backend(str(tmp_path / "run"))).listing())
    assert [(each.id.step, each.standing) for each in listing] == [(7, Standing.COMMITTED)]


def test_threads_and_processes_save_too_and_the_same_step_again_is_the_newer_one(tmp_path: Path) -> None:
    answers = play(f"{SCENES}:asynchronous", 2, tmp_path)
    assert answers == [[[1.0, 1], [20.0, 20]]] * 2
    listing = list(Catalog(open_backend(str(tmp_path / "run"))).listing())
    assert [(each.id.step, each.standing) for each in listing] == [
        (2, Standing.COMMITTED),
        (2, Standing.COMMITTED),
        (1, Standing.COMMITTED),
    ]


@pytest.mark.needs("weed")
def test_an_upload_to_s3_that_fails_leaves_the_checkpoint_before_it_and_goes_with_the_next(
    seaweed: Server, tmp_path: Path
) -> None:
    def fails(method: str, path: str) -> Fault | None:
        is_second = "step-000000000002-" in path and "rank-00001-of-00002.safetensors" in path
        return Fault.ERROR_500 if is_second and method in {"PUT", "POST"} else None

    with environment(seaweed.environment), proxied(seaweed.endpoint_url) as proxy:
        proxy.choose = fails
        place = seaweed.place("dcp-upload", proxy.endpoint_url)
        (tmp_path / "url").write_text(place.url)
        for first, failed, second, third in play(f"{SCENES}:on_s3", 2, tmp_path):
            assert (first, second, third) == ([1.0, 2.0], [1.0, 2.0], [3.0, 4.0])
            assert "rank-00001-of-00002.safetensors" in failed
        assert proxy.fired[Fault.ERROR_500] > 0
        backend = open_backend(place.url)
        # Empty folders may still be shown.
        inside = {
            id_.step: backend.list(id_.folder) + backend.list(id_.receipts) for id_ in Catalog(backend).attempts()
        }
    assert sorted(step for step, entries in inside.items() if any(entry.size for entry in entries)) == [1, 3]
