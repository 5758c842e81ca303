"""What is under a run's URL: each attempt's standing, the best first, and messages that say what there is instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Standing
from relight.storage.errors import NotFound, StorageUnavailable
from relight.tests.storage.checkpoints import attempt_id, persist_rank, save, steps


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "run")


def standings(backend: LocalBackend) -> list[tuple[int, Standing, str]]:
    return [(listed.id.step, listed.standing, listed.reason) for listed in Catalog(backend).listing()]


def test_the_newest_comes_first_by_step_then_generation_then_attempt(backend: LocalBackend) -> None:
    ids = [attempt_id(9, 2, 1), attempt_id(10, 1, 1), attempt_id(10, 1, 2), attempt_id(10, 2, 1), attempt_id(100, 1, 1)]
    for each in ids:
        save(backend, each)
    assert Catalog(backend).attempts() == list(reversed(ids))
    assert [checkpoint.id for checkpoint in Catalog(backend).committed()] == list(reversed(ids))
    assert Catalog(backend).find(10).id == attempt_id(10, 2, 1)
    assert Catalog(backend).find().step == 100


def test_an_attempt_without_a_manifest_does_not_exist_for_a_reader(backend: LocalBackend) -> None:
    save(backend, attempt_id(10))
    persist_rank(backend, attempt_id(20), rank=1)
    assert standings(backend) == [(20, Standing.UNFINISHED, "it has no manifest"), (10, Standing.COMMITTED, "")]
    assert steps(backend) == [10]


def test_damage_that_a_listing_shows_is_named(backend: LocalBackend) -> None:
    folders = [Path(backend.url) / save(backend, attempt_id(step)).id.folder for step in (10, 20, 30, 40, 50)]
    (folders[1] / "rank-00001-of-00002.safetensors").unlink()
    with (folders[2] / "rank-00000-of-00002.safetensors").open("ab") as file:
        file.write(b"x")
    (folders[3] / "manifest.json").write_bytes(b"{}")
    shutil.copy(folders[0] / "manifest.json", folders[4] / "manifest.json")
    at = [f"checkpoints/{folder.name}" for folder in folders]
    assert standings(backend) == [
        (50, Standing.DAMAGED, f"{at[4]}/manifest.json is damaged: it belongs to {folders[0].name}"),
        (40, Standing.DAMAGED, f"{at[3]}/manifest.json is damaged: its checksum does not match its content"),
        (30, Standing.DAMAGED, f"{at[2]}/rank-00000-of-00002.safetensors is 4185 bytes long instead of 4184"),
        (20, Standing.DAMAGED, f"{at[1]}/rank-00001-of-00002.safetensors is missing"),
        (10, Standing.COMMITTED, ""),
    ]
    assert steps(backend) == [10]


def test_foreign_names_are_not_seen(backend: LocalBackend) -> None:
    manifest = save(backend, attempt_id(10))
    checkpoints = Path(backend.url) / "checkpoints"
    shutil.copytree(checkpoints / manifest.id.name, checkpoints / f"{manifest.id.name}.backup")
    shutil.copytree(checkpoints / manifest.id.name, checkpoints / "step-100.backup")
    (checkpoints / attempt_id(99).name).write_text("a file")
    (checkpoints / "latest").symlink_to(manifest.id.name)
    assert standings(backend) == [(10, Standing.COMMITTED, "")]


def test_a_search_in_vain_says_what_there_is(backend: LocalBackend) -> None:
    with pytest.raises(NotFound) as empty:
        Catalog(backend).find()
    assert str(empty.value) == f"there is no committed checkpoint at {backend.url}"
    with pytest.raises(NotFound) as none:
        Catalog(backend).find(5)
    assert str(none.value) == f"there is no committed checkpoint of step 5 at {backend.url} (there are: none)"
    for step in (20, 10):
        save(backend, attempt_id(step))
    with pytest.raises(NotFound) as missing:
        Catalog(backend).find(5)
    assert str(missing.value) == f"there is no committed checkpoint of step 5 at {backend.url} (there are: 10, 20)"


def test_storage_that_cannot_be_asked_is_not_an_empty_run(backend: LocalBackend) -> None:
    save(backend, attempt_id(10))
    checkpoints = Path(backend.url) / "checkpoints"
    shutil.rmtree(checkpoints)
    checkpoints.write_text("a file")
    with pytest.raises(StorageUnavailable):
        list(Catalog(backend).committed())


def test_a_checkpoint_that_is_deleted_while_it_is_looked_at_is_passed_over(backend: LocalBackend) -> None:
    """Retention at work beside a reader."""
    manifest = save(backend, attempt_id(20))
    save(backend, attempt_id(10))

    class DeletesAtTheLook(LocalBackend):
        def list(self, prefix: str) -> list:  # type: ignore[type-arg]
            if prefix == manifest.id.folder:
                shutil.rmtree(Path(self.url) / prefix)
            return super().list(prefix)

    assert [checkpoint.step for checkpoint in Catalog(DeletesAtTheLook(Path(backend.url))).committed()] == [10]
