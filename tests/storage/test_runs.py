"""One URL, one run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relight.storage import runs
from relight.storage.backends.local import LocalBackend
from relight.storage.errors import Damaged, NotFound, OtherRun, StorageUnavailable

IDENTITY: runs.Identity = {"name": "digits", "seed": 0}


def test_a_run_is_registered_once_and_found_again(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "run")
    with pytest.raises(NotFound):
        runs.read(backend)
    first = runs.register(backend, IDENTITY)
    assert runs.register(backend, IDENTITY) == first == runs.read(backend)
    assert first.identity == IDENTITY


def test_all_ranks_that_register_at_once_are_in_one_run(tmp_path: Path) -> None:
    backends = [LocalBackend(tmp_path / "run") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda backend: runs.register(backend, IDENTITY).run, backends))
    assert len(set(found)) == 1


def test_another_run_is_refused_by_what_differs_and_nothing_is_written(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    runs.register(backend, IDENTITY)
    before = backend.read("run.json")
    with pytest.raises(OtherRun) as refused:
        runs.register(backend, {"name": "other", "seed": 1})
    assert str(refused.value) == (
        f"{tmp_path} holds another run (name=digits, seed=0; this one has name=other, seed=1). "
        "Nothing was changed. Choose another storage.url, or start the run that is there"
    )
    assert backend.read("run.json") == before
    assert [entry.key for entry in backend.list("")] == ["run.json"]


def test_who_names_nothing_may_continue_any_run(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    first = runs.register(backend, IDENTITY)
    assert runs.register(backend, {}) == first
    assert runs.register(backend, {"seed": 0, "more": 1}) == first


def test_a_check_refuses_another_run_and_unwritable_storage_and_leaves_nothing(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "run")
    runs.check(backend, IDENTITY)
    assert backend.list("") == []
    runs.register(backend, IDENTITY)
    runs.check(backend, IDENTITY)
    with pytest.raises(OtherRun, match="holds another run"):
        runs.check(backend, {"name": "other"})
    assert [entry.key for entry in backend.list("")] == ["run.json"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable, match="a file is in the way"):
        runs.check(LocalBackend(tmp_path / "file"), IDENTITY)


def test_a_damaged_record_is_refused_with_the_way_out(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    runs.register(backend, IDENTITY)
    (tmp_path / "run.json").write_bytes(b"{}")
    with pytest.raises(Damaged) as refused:
        runs.register(backend, IDENTITY)
    assert str(refused.value) == (
        "run.json is damaged: its checksum does not match its content. "
        f"Put it back from a copy, or choose another storage.url than {tmp_path}"
    )
