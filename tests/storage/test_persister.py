"""What every persister promises its trainer, in a thread or in a process of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relight.storage.backends.local import LocalBackend
from relight.storage.commit import write_failure
from relight.storage.errors import BadUrl, StorageUnavailable
from relight.storage.persist import Outcome
from relight.storage.persister import Persister, ThreadPersister, open_persister
from relight.storage.persister_process import ProcessPersister
from relight.storage.receipts import Receipt
from relight.storage.staged import Seal
from relight.tests.storage.checkpoints import attempt_id, job, persist_rank, shard, steps
from relight.tests.storage.staging import Stage
from relight.tests.waiting import wait_until

Open = Callable[[int], Persister]


@pytest.fixture(params=["thread", "process"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the persister of a rank; at the end none is left."""
    opened: list[Persister] = []

    def open_one(rank: int = 0) -> Persister:
        url = str(tmp_path)
        opened.append(ThreadPersister(url) if request.param == "thread" else ProcessPersister(url, rank=rank))
        return opened[-1]

    yield open_one
    for persister in opened:
        for step in range(10, 40, 10):
            persister.cancel(step, "the test is over")
        persister.close()


@pytest.fixture
def persister(open_one: Open) -> Persister:
    return open_one(0)


def read_seal(path: Path) -> Seal:
    wait_until(path.exists, what=f"{path.name} to be sealed")
    return Seal.from_bytes(path.read_bytes(), path.name)


def test_every_save_is_told_once(open_one: Open, tmp_path: Path, stage: Stage) -> None:
    persisters = [open_one(rank) for rank in range(2)]
    assert [persister.busy for persister in persisters] == [False, False]
    assert persisters[0].outcome() is None
    for step in (10, 20, 30):
        for rank, persister in enumerate(persisters):
            persister.submit(job(attempt_id(step), rank, keep_last=2), stage(shard(step, rank)))
        assert all(persister.wait(20) for persister in persisters)
        assert not any(persister.busy for persister in persisters)
        assert persisters[0].outcome() == Outcome(step, committed=True)
        assert persisters[1].outcome() == Outcome(step)
        assert persisters[0].outcome() is None
    assert steps(LocalBackend(tmp_path)) == [30, 20]


def test_a_save_waits_for_the_one_before_it_and_its_memory_is_held(
    persister: Persister, tmp_path: Path, stage: Stage
) -> None:
    first, second = stage(shard(10)), stage(shard(20))
    persister.submit(job(attempt_id(10)), first)
    persister.submit(job(attempt_id(20)), second)
    wait_until(lambda: not persister.holds(first.descriptor), what="the first shard to be written")
    assert persister.holds(second.descriptor)
    assert persister.busy
    assert not persister.wait(0.01)
    assert persister.outcome() is None
    persist_rank(LocalBackend(tmp_path), attempt_id(20), rank=1)
    persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
    assert persister.wait(20)
    assert not persister.holds(second.descriptor)
    assert [persister.outcome() for _ in range(3)] == [
        Outcome(10, committed=True),
        Outcome(20, committed=True),
        None,
    ]
    assert steps(LocalBackend(tmp_path)) == [20, 10]


def test_a_shard_is_sealed_as_soon_as_it_is_hashed(persister: Persister, tmp_path: Path, stage: Stage) -> None:
    backend, path = LocalBackend(tmp_path), tmp_path / "arena.seal"
    work = job(attempt_id(10))
    persister.submit(work, stage(shard(10), path))
    seal = read_seal(path)
    assert persister.busy, "rank 1 has not written yet"
    assert (seal.id, seal.run, seal.token, seal.world_size) == (work.id, work.run, work.token, work.world_size)
    wait_until(lambda: backend.list(work.id.receipts))
    assert seal.receipt == Receipt.load(backend, work.id.receipt_key(0))


def test_a_snapshot_is_sealed_while_a_save_is_under_way_and_is_never_durable(
    persister: Persister, tmp_path: Path, stage: Stage
) -> None:
    persister.submit(job(attempt_id(10)), stage(shard(10)))
    for step in (11, 12):
        snapshot = stage(shard(step), tmp_path / f"{step}.seal")
        persister.keep(job(attempt_id(step)), snapshot)
        wait_until(lambda snapshot=snapshot: not persister.holds(snapshot.descriptor))
        assert read_seal(tmp_path / f"{step}.seal").step == step
    persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
    assert persister.wait(20)
    assert persister.outcome() == Outcome(10, committed=True)
    assert persister.outcome() is None
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [attempt_id(10).name]


def test_a_save_that_waits_for_another_is_sealed_meanwhile(persister: Persister, tmp_path: Path, stage: Stage) -> None:
    persister.submit(job(attempt_id(10), deadline_s=600.0), stage(shard(10)))
    persister.submit(job(attempt_id(20)), stage(shard(20), tmp_path / "arena.seal"))
    seal = read_seal(tmp_path / "arena.seal")
    assert seal.step == 20
    assert not LocalBackend(tmp_path).list(attempt_id(20).receipts), "it has begun before the first one was done"


def test_a_snapshot_alone_keeps_nobody_busy(persister: Persister, tmp_path: Path, stage: Stage) -> None:
    persister.keep(job(attempt_id(10)), stage(shard(10), tmp_path / "arena.seal"))
    assert not persister.busy
    assert read_seal(tmp_path / "arena.seal").step == 10


def test_a_snapshot_that_cannot_be_sealed_is_only_not_there(
    persister: Persister, tmp_path: Path, stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    lost = stage(shard(10), tmp_path / "no such folder" / "arena.seal")
    persister.keep(job(attempt_id(10)), lost)
    wait_until(lambda: not persister.holds(lost.descriptor))
    persister.submit(job(attempt_id(20), world_size=1), stage(shard(20, 0, 1), tmp_path / "none" / "arena.seal"))
    assert persister.wait(20)
    assert persister.outcome() == Outcome(20, committed=True)


def test_a_wait_that_is_in_vain_can_be_ended(persister: Persister, tmp_path: Path, stage: Stage) -> None:
    persister.submit(job(attempt_id(10), deadline_s=600.0), stage(shard(10)))
    persister.cancel(9, "that is another save")
    assert not persister.wait(0.05)
    began = time.monotonic()
    persister.cancel(10, "step 10: it will not come")
    persister.cancel(10, "said once more")
    persister.close()
    assert time.monotonic() - began < 10
    assert persister.outcome() == Outcome(10, failed="step 10: it will not come")
    assert not list(tmp_path.rglob("*.safetensors"))
    persist_rank(LocalBackend(tmp_path), attempt_id(10, nonce="01abcd"), rank=1)
    persister.submit(job(attempt_id(10, nonce="01abcd")), stage(shard(10)))  # The same step once more is another save.
    persister.close()
    assert persister.outcome() == Outcome(10, committed=True)


def test_of_a_save_that_was_called_off_the_reason_in_the_storage_is_told(
    persister: Persister, tmp_path: Path, stage: Stage
) -> None:
    """The vote may be faster than the next look for receipts."""
    persister.submit(job(attempt_id(10), deadline_s=600.0), stage(shard(10)))
    wait_until(lambda: LocalBackend(tmp_path).list(attempt_id(10).receipts))
    with contextlib.suppress(StorageUnavailable):  # Rank 0 may have read it, and cleared up, before it is durable.
        write_failure(LocalBackend(tmp_path), job(attempt_id(10), rank=1), "its disk is on fire")
    persister.cancel(10, "no reason is known")
    persister.close()
    assert persister.outcome() == Outcome(10, failed="step 10: rank 1 could not write its shard: its disk is on fire")


def test_what_everybody_has_written_is_committed_though_it_was_called_off(
    persister: Persister, tmp_path: Path, stage: Stage
) -> None:
    persist_rank(LocalBackend(tmp_path), attempt_id(10), rank=1)
    persister.submit(job(attempt_id(10)), stage(shard(10)))
    persister.cancel(10, "too late")
    persister.close()
    assert persister.outcome() == Outcome(10, committed=True)


def test_a_save_in_the_queue_is_called_off_as_well(persister: Persister, tmp_path: Path, stage: Stage) -> None:
    persister.submit(job(attempt_id(10), deadline_s=600.0), stage(shard(10)))
    persister.submit(job(attempt_id(20), deadline_s=600.0), stage(shard(20)))
    for step in (20, 10):
        persister.cancel(step, f"step {step}: it will not come")
    assert persister.wait(20)
    assert [persister.outcome() for _ in range(2)] == [
        Outcome(step, failed=f"step {step}: it will not come") for step in (10, 20)
    ]


def test_the_outcome_is_told_before_the_tidying_is_done(persister: Persister, stage: Stage) -> None:
    """A commit is announced at once; `busy` still keeps the order of saves."""
    persister.submit(job(attempt_id(10), world_size=1), stage(shard(10, 0, 1)))
    assert wait_until(persister.outcome) == Outcome(10, committed=True)


def test_closing_lets_the_save_under_way_come_to_its_end(persister: Persister, tmp_path: Path, stage: Stage) -> None:
    persister.submit(job(attempt_id(10), world_size=1), stage(shard(10, 0, 1)))
    persister.close()
    assert steps(LocalBackend(tmp_path)) == [10]
    assert not persister.busy
    assert persister.outcome() == Outcome(10, committed=True)
    persister.close()


def test_storage_in_memory_is_persisted_in_this_process_and_all_else_in_another(tmp_path: Path) -> None:
    assert isinstance(open_persister("memory://somewhere", rank=0), ThreadPersister)
    elsewhere = open_persister(str(tmp_path), rank=0)
    assert isinstance(elsewhere, ProcessPersister)
    elsewhere.close()


def test_a_place_that_cannot_be_is_refused_before_anything_is_saved() -> None:
    with pytest.raises(BadUrl):
        open_persister("no-such-scheme://host/x", rank=0)
