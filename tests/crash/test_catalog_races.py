"""A reader that is overtaken by a writer at any of its looks at the storage, tried for every pair of looks."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path

import pytest

from relight.storage import sweep
from relight.storage.backends.base import Entry
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.errors import NotFound
from relight.storage.retention import Rules
from relight.tests.crash.readers import CATALOGS
from relight.tests.storage.checkpoints import attempt_id, persist_rank, save


class Overtaken(LocalBackend):
    """Before each of the looks in `at`, counted from 0, a writer commits one checkpoint and lets the older ones go.

    It has begun the next save already: there is always a newer attempt that is no checkpoint yet.
    """

    def __init__(self, root: Path, at: Collection[int]) -> None:
        super().__init__(root)
        self._at = at
        self._writer = LocalBackend(root)
        self.looks = 0
        self.step = 1
        save(self._writer, attempt_id(self.step))
        persist_rank(self._writer, attempt_id(self.step + 1), 1)

    def _look(self) -> None:
        if self.looks in self._at:
            self.step += 1
            assert persist_rank(self._writer, attempt_id(self.step), 0).committed
            persist_rank(self._writer, attempt_id(self.step + 1), 1)
            sweep.maintain(self._writer, attempt_id(self.step), Rules(keep_last=1))
        self.looks += 1

    def list(self, prefix: str) -> list[Entry]:
        self._look()
        return super().list(prefix)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self._look()
        return super().read(key, start, length)

    def size(self, key: str) -> int:
        self._look()
        return super().size(key)


def overtake(folder: Path, catalog: type[Catalog]) -> tuple[int, list[tuple[int, ...]]]:
    """How often it was tried, and at which looks a reader that was overtaken found nothing."""
    tried, looks, in_vain = 0, 1, []
    for at in itertools.chain([()], ((look,) for look in range(20)), itertools.combinations(range(20), 2)):
        if max(at, default=0) < looks:
            backend = Overtaken(folder / str(tried), at)
            try:
                catalog(backend).find()
            except NotFound:
                in_vain.append(at)
            looks = max(looks, backend.looks)
            tried += 1
    return tried, in_vain


def test_a_reader_overtaken_at_any_two_looks_finds_a_checkpoint(
    in_memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried, in_vain = overtake(in_memory, Catalog)
    with capsys.disabled():
        print(f"\novertaken readers: {tried} schedules, {len(in_vain)} found nothing")
    assert in_vain == []
    assert tried >= 40


def test_one_listing_is_not_enough(in_memory: Path) -> None:
    assert overtake(in_memory, CATALOGS["ListsOnce"])[1]


def test_an_empty_run_is_found_empty_at_once(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    persist_rank(backend, attempt_id(10), 1)
    with pytest.raises(NotFound) as refused:
        Catalog(backend).find()
    assert str(refused.value) == f"there is no committed checkpoint at {tmp_path}"
