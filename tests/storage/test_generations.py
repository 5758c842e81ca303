"""Generations: one winner each, the rule that fences zombies as a table, and a zombie that is told so."""

from __future__ import annotations

from pathlib import Path

import pytest

from relight.storage import generations, sweep
from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog, Standing
from relight.storage.errors import StorageError, Superseded
from relight.storage.generations import Generation, claim, fenced
from relight.storage.layout import generation_key
from relight.storage.retention import Rules
from relight.tests.contract.racing import race
from relight.tests.storage.checkpoints import attempt_id, persist_rank, save, steps


def start(backend: LocalBackend, incarnation: str) -> Generation:
    """What a launcher does: choose, then claim."""
    newest = next(Catalog(backend).committed(), None)
    resumed_from = newest.step if newest else None
    return claim(backend, incarnation=incarnation, resumed_from=resumed_from, host="here")


@pytest.mark.parametrize(
    ("step", "generation", "resumed", "by"),
    [
        (100, 1, {1: None}, None),
        (100, 1, {1: None, 2: 100}, None),
        (101, 1, {1: None, 2: 100}, 2),
        (101, 2, {1: None, 2: 100}, None),
        (101, 1, {1: None, 2: 200, 3: 100}, 3),
        (101, 2, {1: None, 2: 50, 3: 200}, None),
        (1, 1, {1: None, 2: None}, 2),
        (0, 1, {1: None, 2: None}, 2),
        (0, 1, {1: None, 2: 0}, None),
        (300, 1, {1: None, 2: 100, 3: 200}, 2),
    ],
)
def test_a_checkpoint_is_fenced_by_a_later_generation_that_resumed_from_before_it(
    step: int, generation: int, resumed: dict[int, int | None], by: int | None
) -> None:
    known = {number: Generation(number, f"i-{number}", step) for number, step in resumed.items()}
    assert fenced(step, generation, known) == by


def test_a_generation_whose_record_is_damaged_fences_nothing_but_its_number_stays_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = LocalBackend(tmp_path)
    assert fenced(100, 1, {1: None, 2: None}) is None
    backend.put(generation_key(1), b"garbage")
    assert start(backend, "one").number == 2
    assert "generations/00000001.json is damaged: it is not JSON" in caplog.text
    assert "; the generation fences nothing" in caplog.text


def test_a_restart_within_an_incarnation_goes_on_under_its_generation(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    first = start(backend, "one")
    save(backend, attempt_id(10))
    assert start(backend, "one") == first == Generation(1, "one", None)


def test_of_two_rival_launchers_the_later_one_goes_on(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    assert start(backend, "one").number == 1
    assert start(backend, "two").number == 2
    with pytest.raises(Superseded) as refused:
        start(backend, "one")
    assert str(refused.value) == (
        f"generation 2 of the run at {tmp_path} has started; this launcher is generation 1 and must not write any "
        "more. Stop it: the newer one goes on with the run"
    )


def test_16_processes_that_claim_at_once_get_16_generations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = race("claim", str(tmp_path), processes=16, rounds=6)
    with capsys.disabled():
        print(f"\nclaims: 16 processes, {len(rounds)} rounds, one winner for each of the 16 generations of a round")
    assert all(sorted(numbers) == list(range(1, 17)) for numbers in rounds)


def test_foreign_files_beside_the_generations_are_not_seen(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    for name in ("generations/00000099.json.bak", "generations/notes.txt", "generations/folder/x"):
        backend.put(name, b"mine")
    assert start(backend, "one").number == 1


def test_a_zombie_that_wakes_up_may_not_commit(tmp_path: Path) -> None:
    """It was stopped before its commit; meanwhile another launcher took over."""
    backend = LocalBackend(tmp_path)
    start(backend, "zombie")
    save(backend, attempt_id(10))
    persist_rank(backend, attempt_id(20), rank=1)
    start(backend, "heir")
    outcome = persist_rank(backend, attempt_id(20), rank=0)
    assert outcome.superseded
    assert not outcome.committed
    assert outcome.failed.startswith(
        f"generation 2 of the run at {tmp_path} has started; this launcher is generation 1"
    )
    assert steps(backend) == [10]


def test_a_zombie_that_commits_in_the_last_moment_is_not_chosen_and_is_swept(tmp_path: Path) -> None:
    """It had looked for a later generation just before there was one."""
    backend = LocalBackend(tmp_path)
    start(backend, "zombie")
    for step in (5, 10):
        save(backend, attempt_id(step))
    heir = Generation(2, "heir", 10)

    class TookALongLook(LocalBackend):
        def put(self, key: str, data: object, *, overwrite: bool = False) -> None:
            if key.endswith("manifest.json"):
                claim(backend, incarnation=heir.incarnation, resumed_from=heir.resumed_from, host="there")
            super().put(key, data, overwrite=overwrite)  # type: ignore[arg-type]

    zombie = TookALongLook(tmp_path)
    persist_rank(zombie, attempt_id(20), rank=1)
    assert persist_rank(zombie, attempt_id(20), rank=0).committed
    assert [(each.id.step, each.standing, each.reason) for each in Catalog(backend).listing()] == [
        (20, Standing.FENCED, "generation 2 resumed from an earlier step"),
        (10, Standing.COMMITTED, ""),
        (5, Standing.COMMITTED, ""),
    ]
    assert sweep.maintain(zombie, attempt_id(20), Rules(keep_last=1)) == []
    assert steps(backend) == [10, 5]
    save(backend, attempt_id(15, generation=2))
    sweep.maintain(backend, attempt_id(15, generation=2), Rules(keep_last=3))
    assert steps(backend) == [15, 10, 5]
    assert [each.id.step for each in Catalog(backend).listing()] == [15, 10, 5]


def test_storage_that_cannot_be_asked_stops_a_claim(tmp_path: Path) -> None:
    (tmp_path / "generations").write_text("a file in the way")
    with pytest.raises(StorageError, match="cannot list"):
        generations.claim(LocalBackend(tmp_path), incarnation="one", resumed_from=None, host="here")
