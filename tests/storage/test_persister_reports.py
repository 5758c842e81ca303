"""Bad news first: the trainer hears of a failed save before anything is cleared away, and whatever has failed."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from relight.storage import persist as persisting
from relight.storage.backends.base import Bytes, Entry
from relight.storage.backends.local import LocalBackend
from relight.storage.errors import StorageUnavailable
from relight.storage.persist import Outcome, Watch, persist
from relight.storage.persister import ThreadPersister
from relight.storage.staged import Staged
from relight.tests.storage.checkpoints import attempt_id, job, persist_rank, shard
from relight.tests.storage.staging import Stage
from relight.tests.waiting import wait_until


class Unreachable(LocalBackend):
    """Nothing can be put; listings hang until `answers` is set, as those of a store that is insisted on."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.answers = threading.Event()

    def put(self, key: str, data: Bytes, *, overwrite: bool = False) -> None:
        raise StorageUnavailable(f"cannot write {key}: no route to host")

    def list(self, prefix: str) -> list[Entry]:
        assert self.answers.wait(60)
        return super().list(prefix)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_is_told_while_the_storage_is_still_being_asked(
    tmp_path: Path, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persisting, "_QUICK_S", 0.05)
    backend = Unreachable(tmp_path)
    told: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        told.append(outcome)
        backend.answers.set()

    outcome = persist(backend, job(attempt_id(10), rank), shard(10, rank), watch=Watch(ended=tell))
    key = attempt_id(10).shard_key(rank, 2)
    assert told == [outcome] == [Outcome(10, failed=f"cannot write {key}: no route to host")]


def test_a_rank_that_cannot_even_say_so_says_why_in_its_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    outcome = persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
    assert caplog.messages == [f"rank 1 could not write its shard of step 10: {outcome.failed}"]


def test_a_bug_in_the_thread_is_an_outcome_and_not_silence(
    tmp_path: Path, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    persister = ThreadPersister(str(tmp_path))
    staged = stage(bytes(64))
    strided = Staged(descriptor=staged.descriptor, view=staged.view[::2], seal=None)
    with caplog.at_level(logging.ERROR):
        persister.keep(job(attempt_id(10)), strided)
        persister.submit(job(attempt_id(10)), strided)
        persister.close()
    outcome = persister.outcome()
    assert outcome is not None
    assert outcome.failed.startswith("TypeError: memoryview: casts are restricted to C-contiguous views")
    assert not persister.holds(staged.descriptor)
    assert "the snapshot of step 10 met a bug" in caplog.text
    assert "the save of step 10 met a bug" in caplog.text


def test_a_shard_that_cannot_be_sealed_is_saved_all_the_same(
    tmp_path: Path, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    persister = ThreadPersister(str(tmp_path))
    seal = tmp_path / "no-such-folder" / "arena.seal"
    persister.submit(job(attempt_id(10), world_size=1), stage(shard(10, 0, 1), seal))
    assert wait_until(persister.outcome) == Outcome(10, committed=True)
    persister.close()
    (line,) = caplog.messages
    assert line.startswith("the memory of step 10 cannot be sealed: [Errno 2] No such file or directory")
