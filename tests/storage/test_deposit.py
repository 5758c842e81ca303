"""A run from a stream of bytes: there as a whole, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relight.storage import generations, runs
from relight.storage.arrangement import plan
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.deposit import deposit
from relight.storage.errors import OtherRun, StorageUnavailable
from relight.storage.manifest import Progress
from relight.storage.shards import Piece
from relight.storage.verify import verify
from relight.storage.whole import Whole

CONTENT = b"abcdefgh" * 4
LAYOUT = plan([Piece.whole("model/w", "F32", (2, 4))], {"progress": {}})
PROGRESS = Progress(epoch=2, step=7, samples=0, loss=0.5)


class Failing(LocalBackend):
    """Fails for the first time at the `at`-th put."""

    def __init__(self, root: Path, at: int) -> None:
        super().__init__(root)
        self._left = at

    def put(self, key: str, data: Any, *, overwrite: bool = False) -> None:
        self._left -= 1
        if not self._left:
            message = f"no space for {key}"
            raise StorageUnavailable(message)
        super().put(key, data, overwrite=overwrite)


def test_a_deposit_is_a_run_with_one_proven_checkpoint(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "run")
    manifest = deposit(backend, LAYOUT, PROGRESS, [CONTENT[:5], memoryview(CONTENT)[5:]])
    assert Catalog(backend).find(7).manifest == manifest
    assert list(verify(backend, manifest)) == []
    assert Whole(backend, manifest).read("model/w") == CONTENT
    assert (manifest.world_size, manifest.progress) == (1, PROGRESS)


def test_any_run_may_go_on_with_it_and_later_launchers_are_not_fenced(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "run")
    manifest = deposit(backend, LAYOUT, PROGRESS, [CONTENT])
    assert runs.register(backend, {"name": "digits", "seed": 3}).run == manifest.run
    generations.claim(backend, incarnation="next", resumed_from=7, host="here")
    assert Catalog(backend).find().manifest == manifest


def test_a_place_with_a_run_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "run")
    deposit(backend, LAYOUT, PROGRESS, [CONTENT])
    before = _content(tmp_path)
    with pytest.raises(OtherRun) as refused:
        deposit(backend, LAYOUT, PROGRESS, [CONTENT])
    assert str(refused.value) == (
        f"{tmp_path / 'run'} holds a run already. Nothing was changed. "
        "Choose another URL, or go on with the run that is there"
    )
    assert _content(tmp_path) == before


def test_a_run_that_has_lost_its_record_is_still_a_run(tmp_path: Path) -> None:
    deposit(LocalBackend(tmp_path), LAYOUT, PROGRESS, [CONTENT])
    (tmp_path / "run.json").unlink()
    with pytest.raises(OtherRun):
        deposit(LocalBackend(tmp_path), LAYOUT, PROGRESS, [CONTENT])
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("at", range(2, 8))
def test_what_fails_on_the_way_leaves_nothing_and_may_be_tried_again(tmp_path: Path, at: int) -> None:
    with pytest.raises(StorageUnavailable, match="no space for"):
        deposit(Failing(tmp_path / "run", at), LAYOUT, PROGRESS, [CONTENT])
    assert [path for path in _content(tmp_path) if not path.endswith("/")] == []
    deposit(LocalBackend(tmp_path / "run"), LAYOUT, PROGRESS, [CONTENT])


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!"])
def test_content_of_another_length_is_refused_before_anything_is_written(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError) as refused:
        deposit(LocalBackend(tmp_path / "run"), LAYOUT, PROGRESS, [content])
    assert str(refused.value) == f"{len(LAYOUT.header) + len(content)} bytes were brought for a shard of {LAYOUT.size}"
    assert _content(tmp_path) == {}


def test_an_interrupt_while_it_is_brought_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[bytes]:
        yield CONTENT[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deposit(LocalBackend(tmp_path / "run"), LAYOUT, PROGRESS, interrupted())
    assert _content(tmp_path) == {}


def test_a_launcher_that_began_meanwhile_keeps_its_run(tmp_path: Path) -> None:
    """It found the record of the run, and nothing in it yet: it must not lose it."""

    class Overtaken(LocalBackend):
        def put(self, key: str, data: Any, *, overwrite: bool = False) -> None:
            super().put(key, data, overwrite=overwrite)
            if key.endswith(".safetensors"):
                generations.claim(LocalBackend(tmp_path), incarnation="other", resumed_from=None, host="here")

    with pytest.raises(Exception, match=r"generation 2 of the run at .* has started"):
        deposit(Overtaken(tmp_path), LAYOUT, PROGRESS, [CONTENT])
    assert (tmp_path / "run.json").exists()
    assert max(generations.read_all(LocalBackend(tmp_path))) == 2
    with pytest.raises(Exception, match="no committed checkpoint"):
        Catalog(LocalBackend(tmp_path)).find()


def _content(folder: Path) -> dict[str, str]:
    return {str(it): hashlib.sha256(it.read_bytes()).hexdigest() for it in folder.rglob("*") if it.is_file()}
