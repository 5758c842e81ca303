"""A save from bytes in memory to a checkpoint that exists, and the ways in which it fails without doing harm."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from relight.storage.backends.disk import Disk
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.storage.digest import digest
from relight.storage.persist import Outcome
from relight.storage.persister import ThreadPersister
from relight.storage.receipts import Receipt
from relight.storage.verify import verify
from relight.tests.storage.checkpoints import attempt_id, job, persist_rank, save, shard, steps
from relight.tests.storage.faults import FailingDisk
from relight.tests.storage.staging import Stage


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def failing(root: Path, operation: str, code: int, where: str = "", times: int = 1_000_000) -> LocalBackend:
    return LocalBackend(root, FailingDisk(operation, code, where, times))


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_a_save_of_any_number_of_ranks_is_found_proven_and_the_same_state(tmp_path: Path, world_size: int) -> None:
    backend = LocalBackend(tmp_path / "run")
    manifest = save(backend, attempt_id(10), world_size)
    assert verify(backend, manifest) == []
    alone = LocalBackend(tmp_path / "alone")
    assert digest(backend, manifest) == digest(alone, save(alone, attempt_id(10), world_size=1))


def test_ranks_that_save_at_once_need_no_word_but_the_storage(tmp_path: Path) -> None:
    outcomes: dict[int, Outcome] = {}

    def act(rank: int) -> None:
        outcomes[rank] = persist_rank(LocalBackend(tmp_path), attempt_id(10), rank, world_size=4)

    threads = [threading.Thread(target=act, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {rank: Outcome(10, committed=rank == 0) for rank in range(4)}
    assert steps(LocalBackend(tmp_path)) == [10]


def test_a_rank_that_never_writes_is_named_at_the_deadline(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    save(backend, attempt_id(10), world_size=4)
    before = files(tmp_path)
    persist_rank(backend, attempt_id(20), rank=2, world_size=4)
    outcome = persist_rank(backend, attempt_id(20), rank=0, world_size=4, deadline_s=0.05)
    assert outcome == Outcome(
        20,
        failed="step 20: nothing was heard from rank 1, 3 within 0.05 s. See that rank's log; "
        "if its storage is slow, raise checkpoint.save_deadline_s",
    )
    assert files(tmp_path) == before


def test_a_rank_that_cannot_write_ends_the_save_at_once_with_its_reason(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    save(backend, attempt_id(10))
    before = files(tmp_path)
    reason = (
        f"cannot write {tmp_path}/{attempt_id(20).shard_key(1, 2)}: No space left on device; "
        "free some space or choose another storage.url"
    )
    full = failing(tmp_path, "write_new", errno.ENOSPC, where="safetensors")
    assert persist_rank(full, attempt_id(20), rank=1) == Outcome(20, failed=reason)
    began = time.monotonic()
    outcome = persist_rank(backend, attempt_id(20), rank=0, deadline_s=60.0)
    assert time.monotonic() - began < 5
    assert outcome == Outcome(20, failed=f"step 20: rank 1 could not write its shard: {reason}")
    assert files(tmp_path) == before
    save(backend, attempt_id(30))
    assert steps(backend) == [30, 10]


@pytest.mark.parametrize("operation", ["make_dir", "write_new", "link", "sync_dir"])
@pytest.mark.parametrize("where", ["safetensors", "receipts", "manifest"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
def test_rank_0_reports_any_failure_of_its_own_and_the_checkpoint_before_is_untouched(
    tmp_path: Path, operation: str, where: str, code: int
) -> None:
    backend = LocalBackend(tmp_path)
    save(backend, attempt_id(10))
    before = files(tmp_path)
    persist_rank(backend, attempt_id(20), rank=1)
    disk = FailingDisk(operation, code, where, times=1)
    outcome = persist_rank(LocalBackend(tmp_path, disk), attempt_id(20), rank=0)
    if disk.fired:
        assert not outcome.committed
        assert outcome.failed.startswith("cannot ")
        assert files(tmp_path) == before
        assert steps(backend) == [10]
    else:
        assert outcome.committed
    save(backend, attempt_id(30))
    assert steps(backend)[0] == 30


def test_a_commit_whose_last_sync_fails_is_taken_back(tmp_path: Path) -> None:
    """The manifest could be seen for a moment; since it was not announced nobody may count on it."""
    backend = LocalBackend(tmp_path)
    save(backend, attempt_id(10))

    class FailsAfterTheCommit(Disk):
        linked = False

        def link(self, source: Path, target: Path) -> None:
            super().link(source, target)
            self.linked = target.name == "manifest.json"

        def sync_dir(self, path: Path) -> None:
            if self.linked:
                self.linked = False
                raise OSError(errno.EIO, "Input/output error")
            super().sync_dir(path)

    persist_rank(backend, attempt_id(20), rank=1)
    outcome = persist_rank(LocalBackend(tmp_path, FailsAfterTheCommit()), attempt_id(20), rank=0)
    assert outcome.failed.startswith(f"cannot write {tmp_path}/{attempt_id(20).manifest_key}: Input/output error")
    assert steps(backend) == [10]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [attempt_id(10).name]


def test_a_rank_whose_receipt_may_have_been_seen_takes_nothing_back(tmp_path: Path) -> None:
    """Rank 0 may have committed on it already: what rank 1 cannot know it must not undo."""

    class FailsAfterTheReceipt(Disk):
        linked = False

        def link(self, source: Path, target: Path) -> None:
            super().link(source, target)
            self.linked = target.parent.name == "receipts"

        def sync_dir(self, path: Path) -> None:
            if self.linked:
                self.linked = False
                raise OSError(errno.EIO, "Input/output error")
            super().sync_dir(path)

    backend = LocalBackend(tmp_path)
    assert persist_rank(LocalBackend(tmp_path, FailsAfterTheReceipt()), attempt_id(10), rank=1).failed
    assert persist_rank(backend, attempt_id(10), rank=0).committed
    assert verify(backend, Catalog(backend).find().manifest) == []


def test_what_a_late_rank_leaves_of_a_failed_save_is_reclaimed_by_the_next(tmp_path: Path, stage: Stage) -> None:
    persister = ThreadPersister(str(tmp_path))
    backend = LocalBackend(tmp_path)
    assert persist_rank(backend, attempt_id(10), rank=0, deadline_s=0.01).failed
    assert not persist_rank(backend, attempt_id(10), rank=1).failed
    assert files(tmp_path) != set()
    assert persist_rank(backend, attempt_id(20), rank=0, deadline_s=0.01).failed
    assert files(tmp_path) == set()
    persist_rank(backend, attempt_id(20), rank=1)
    persist_rank(backend, attempt_id(30), rank=1)
    persister.submit(job(attempt_id(30)), stage(shard(30)))
    assert persister.wait(20)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [attempt_id(30).name]
    persister.close()


def test_giving_up_on_storage_that_is_gone_is_logged_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way")
    backend = LocalBackend(tmp_path)
    for rank in (1, 0):
        assert "a file is in the way" in persist_rank(backend, attempt_id(10), rank).failed
    assert f"could not clear what the failed save of step 10 left at {tmp_path}: cannot delete" in caplog.text


@pytest.mark.parametrize(
    ("receipt", "text"),
    [
        (b"garbage", "is damaged: it is not JSON"),
        (Receipt(rank=0, failed="no").to_bytes(), "receipts/rank-00001.json is damaged: it is the receipt of rank 0"),
        (Receipt(rank=1, failed="no").to_bytes(), "step 10: rank 1 could not write its shard: no"),
    ],
)
def test_a_receipt_that_does_not_say_what_it_should_is_not_committed_on(
    tmp_path: Path, receipt: bytes, text: str
) -> None:
    backend = LocalBackend(tmp_path)
    backend.put(attempt_id(10).receipt_key(1), receipt)
    assert text in persist_rank(backend, attempt_id(10), rank=0).failed
    assert steps(backend) == []
    assert files(tmp_path) == set()
