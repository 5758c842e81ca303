"""The thread that persists: one job at a time, told once, never silent."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from relight.storage.backends.local import LocalBackend
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
        ThreadPersister("ftp://host/x")
