"""What may go and what must stay, as tables; and that going is safe at every step of the way."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.storage import sweep
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Listed, Standing
from relight.storage.layout import AttemptId
from relight.storage.retention import Rules
from relight.storage.verify import verify
from relight.tests.storage.checkpoints import attempt_id, names, persist_rank, save, steps
from relight.tests.storage.faults import FailingDisk

IDS = st.builds(attempt_id, st.integers(0, 9), st.integers(1, 3), st.integers(1, 3))
LISTINGS = st.lists(st.builds(Listed, IDS, st.sampled_from(Standing)), unique_by=lambda listed: listed.id, max_size=12)


@settings(max_examples=300, deadline=None)
@given(LISTINGS, st.integers(1, 4), st.lists(IDS, max_size=2), IDS)
def test_whatever_is_there_the_newest_committed_and_the_protected_stay(
    listing: list[Listed], keep_last: int, protected: list[AttemptId], now: AttemptId
) -> None:
    going = {*sweep.old(listing, Rules(keep_last=keep_last), protected=protected), *sweep.garbage(listing, now)}
    committed = sorted(listed.id for listed in listing if listed.standing is Standing.COMMITTED)
    assert going.isdisjoint(committed[-keep_last:])
    assert going.isdisjoint({*protected} & {*committed})
    assert going <= {listed.id for listed in listing}
    assert now not in sweep.garbage(listing, now)


@pytest.mark.parametrize(
    ("theirs", "gone"),
    [
        (attempt_id(10, 1, 1), True),
        (attempt_id(90, 1, 9), True),
        (attempt_id(10, 2, 2), True),
        (attempt_id(19, 2, 3), True),
        (attempt_id(20, 2, 3), False),
        (attempt_id(21, 2, 3), False),
        (attempt_id(10, 2, 4), False),
        (attempt_id(10, 3, 1), False),
    ],
    ids=lambda value: value.name if isinstance(value, AttemptId) else "",
)
@pytest.mark.parametrize("standing", Standing)
def test_only_what_nobody_can_use_or_still_writes_is_garbage(theirs: AttemptId, gone: bool, standing: Standing) -> None:  # noqa: FBT001
    useless = standing in {Standing.UNFINISHED, Standing.FENCED}
    found = sweep.garbage([Listed(theirs, standing)], attempt_id(20, 2, 3, "ffffff"))
    assert found == ([theirs] if gone and useless else [])


def test_a_damaged_checkpoint_stays_until_all_that_is_kept_is_newer() -> None:
    listing = [Listed(attempt_id(step), Standing.COMMITTED) for step in (40, 30)]
    listing += [Listed(attempt_id(step), Standing.DAMAGED) for step in (35, 20, 10)]
    assert [each.step for each in sweep.old(listing, Rules(keep_last=2), protected=[attempt_id(10)])] == [20]
    assert [each.step for each in sweep.old(listing, Rules(keep_last=1), protected=[])] == [10, 20, 30, 35]
    assert [each.step for each in sweep.old(listing, Rules(keep_last=1, pinned=(20, 30)), protected=[])] == [10, 35]
    assert sweep.old(listing, Rules(keep_last=3), protected=[]) == []


def test_tidying_keeps_what_it_should_and_leaves_foreign_files(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    for step in (10, 20, 30):
        save(backend, attempt_id(step))
    persist_rank(backend, attempt_id(15), rank=1)
    checkpoints = tmp_path / "checkpoints"
    foreign = [checkpoints / "step-100.backup", checkpoints / attempt_id(10).name / "notes.txt", tmp_path / "mine"]
    foreign[0].mkdir()
    for path in (foreign[0] / "manifest.json", *foreign[1:]):
        path.write_text("mine")
    deleted = sweep.maintain(backend, attempt_id(30), Rules(keep_last=2))
    assert names(deleted) == [(10, 1, 1), (15, 1, 1)]
    assert steps(backend) == [30, 20]
    assert all(path.exists() for path in foreign)
    assert [path.name for path in (checkpoints / attempt_id(10).name).rglob("*")] == ["notes.txt"]
    assert sorted(path.name for path in checkpoints.iterdir()) == sorted(
        [attempt_id(10).name, attempt_id(20).name, attempt_id(30).name, "step-100.backup"]
    )


@pytest.mark.parametrize("spare", [False, True])
def test_what_a_dead_worker_s_persister_may_still_write_is_spared(tmp_path: Path, *, spare: bool) -> None:
    backend = LocalBackend(tmp_path)
    earlier, failed = attempt_id(30, 1, 1), attempt_id(50, 1, 2)
    persist_rank(backend, earlier, rank=1)
    persist_rank(backend, failed, rank=1)
    sweep.give_up(backend, failed, spare_unfinished=spare)
    assert Catalog(backend).attempts() == ([earlier] if spare else [])
    if not spare:
        persist_rank(backend, earlier, rank=1)
    save(backend, attempt_id(40, 1, 2))
    sweep.maintain(backend, attempt_id(40, 1, 2), Rules(), spare_unfinished=spare)
    assert Catalog(backend).attempts() == [attempt_id(40, 1, 2), *([earlier] if spare else [])]


def test_what_the_run_resumed_from_is_never_deleted(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    for step in (10, 20, 30):
        save(backend, attempt_id(step))
    sweep.maintain(backend, attempt_id(30), Rules(keep_last=1), protected=[attempt_id(10)])
    assert steps(backend) == [30, 10]


@pytest.mark.parametrize("broken_at", range(12))
def test_a_deletion_that_breaks_off_anywhere_leaves_whole_checkpoints_only(
    tmp_path: Path, broken_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    backend = LocalBackend(tmp_path)
    for step in (10, 20, 30):
        save(backend, attempt_id(step))
    counts = iter(range(broken_at))

    class BreaksOff(FailingDisk):
        def _may_fail(self, operation: str, path: Path) -> None:
            if operation == "unlink" and next(counts, None) is None:
                super()._may_fail(operation, path)

    broken = LocalBackend(tmp_path, BreaksOff("unlink", errno.EIO))
    sweep.maintain(broken, attempt_id(30), Rules(keep_last=1))
    assert broken_at >= 10 or f"could not tidy {tmp_path}: cannot delete {tmp_path}/checkpoints/" in caplog.text
    for checkpoint in Catalog(backend).committed():
        assert verify(backend, checkpoint.manifest) == []
    assert Standing.DAMAGED not in {listed.standing for listed in Catalog(backend).listing()}
    assert steps(backend)[0] == 30
    sweep.maintain(backend, attempt_id(40), Rules(keep_last=1))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [attempt_id(30).name]
