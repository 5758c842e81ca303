"""The thread that persists: one job at a time, told once, never silent."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from relight.storage.backends.local import LocalBackend
from relight.storage.commit import write_failure
from relight.storage.errors import BadUrl
from relight.storage.persister import Outcome, ThreadPersister
from relight.tests.storage.checkpoints import attempt_id, job, persist_rank, shard, steps
from relight.tests.waiting import wait_until


def test_the_thread_persists_and_tells_once(tmp_path: Path) -> None:
    persisters = [ThreadPersister(str(tmp_path)) for _ in range(2)]
    assert [persister.busy for persister in persisters] == [False, False]
    assert persisters[0].outcome() is None
    for step in (10, 20, 30):
        for rank, persister in enumerate(persisters):
            persister.submit(job(attempt_id(step), rank, keep_last=2), shard(step, rank))
        assert all(persister.wait(20) for persister in persisters)
        assert persisters[0].outcome() == Outcome(step, committed=True)
        assert persisters[1].outcome() == Outcome(step)
        assert persisters[0].outcome() is None
    for persister in persisters:
        persister.close()
    assert steps(LocalBackend(tmp_path)) == [30, 20]


def test_a_second_job_has_to_wait_for_the_first(tmp_path: Path) -> None:
    persister = ThreadPersister(str(tmp_path))
    persister.submit(job(attempt_id(10)), shard(10))
    with pytest.raises(RuntimeError, match="a save is still being persisted"):
        persister.submit(job(attempt_id(20)), shard(20))
    assert not persister.wait(0.01)
    persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
    persister.close()
    assert persister.outcome() == Outcome(10, committed=True)


def test_a_wait_that_is_in_vain_can_be_ended(tmp_path: Path) -> None:
    persister = ThreadPersister(str(tmp_path))
    persister.submit(job(attempt_id(10), deadline_s=600.0), shard(10))
    persister.cancel(9, "that is another save")
    assert not persister.wait(0.05)
    began = time.monotonic()
    persister.cancel(10, "step 10: it will not come")
    persister.cancel(10, "said once more")
    persister.close()
    assert time.monotonic() - began < 5
    assert persister.outcome() == Outcome(10, failed="step 10: it will not come")
    assert not list(tmp_path.rglob("*.safetensors"))
    persist_rank(LocalBackend(tmp_path), attempt_id(10, nonce="01abcd"), rank=1)
    persister.submit(job(attempt_id(10, nonce="01abcd")), shard(10))  # The same step once more is another save.
    persister.close()
    assert persister.outcome() == Outcome(10, committed=True)


def test_of_a_save_that_was_called_off_the_reason_in_the_storage_is_told(tmp_path: Path) -> None:
    """The vote may be faster than the next look for receipts."""
    persister = ThreadPersister(str(tmp_path))
    persister.submit(job(attempt_id(10), deadline_s=600.0), shard(10))
    wait_until(lambda: LocalBackend(tmp_path).list(attempt_id(10).receipts))
    write_failure(LocalBackend(tmp_path), job(attempt_id(10), rank=1), "its disk is on fire")
    persister.cancel(10, "no reason is known")
    persister.close()
    assert persister.outcome() == Outcome(10, failed="step 10: rank 1 could not write its shard: its disk is on fire")


def test_what_everybody_has_written_is_committed_though_it_was_called_off(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    persister = ThreadPersister(str(tmp_path))
    persist_rank(backend, attempt_id(10), rank=1)
    persister.submit(job(attempt_id(10)), shard(10))
    persister.cancel(10, "too late")
    persister.close()
    assert persister.outcome() == Outcome(10, committed=True)


def test_a_rank_that_cannot_even_say_so_says_why_in_its_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    outcome = persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
    assert caplog.messages == [f"rank 1 could not write its shard of step 10: {outcome.failed}"]


def test_the_outcome_is_told_before_the_tidying_is_done(tmp_path: Path) -> None:
    """A commit is announced at once; `busy` still keeps the memory, and the order of saves."""
    persister = ThreadPersister(str(tmp_path))
    persister.submit(job(attempt_id(10), world_size=1), shard(10, 0, 1))
    assert wait_until(persister.outcome) == Outcome(10, committed=True)
    persister.close()


def test_a_bug_in_the_thread_is_an_outcome_and_not_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    persister = ThreadPersister(str(tmp_path))
    strided = memoryview(bytearray(64))[::2]
    with caplog.at_level(logging.ERROR):
        persister.submit(job(attempt_id(10)), strided)
        persister.close()
    outcome = persister.outcome()
    assert outcome is not None
    assert outcome.failed.startswith("TypeError: memoryview: casts are restricted to C-contiguous views")
    assert "the save of step 10 met a bug" in caplog.text


def test_a_place_that_cannot_be_is_refused_before_anything_is_saved() -> None:
    with pytest.raises(BadUrl):
        ThreadPersister("no-such-scheme://host/x")
