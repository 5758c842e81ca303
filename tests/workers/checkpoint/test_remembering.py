"""What of the hosts' memory may be gone on from, and when the storage knows better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relight.storage import generations
from relight.storage.backends.local import LocalBackend
from relight.storage.layout import AttemptId
from relight.tests.storage.checkpoints import attempt_id
from relight.tests.workers.checkpoint import states
from relight.workers.checkpoint.collective import Circle
from relight.workers.checkpoint.remembering import Offer, Remembered, choices
from relight.workers.checkpoint.restoring import Found, find

RUN = "a-run"


def offer(step: int, shard: int, **changes: Any) -> Offer:
    attempt = changes.pop("id", attempt_id(step))
    facts: dict[str, Any] = {"token": "a-token", "run": RUN, "world_size": 2, "size": 100 + shard}
    return Offer(id=attempt, shard=shard, **(facts | changes))


def chosen(*offers: Sequence[Offer], generation: int = 1) -> list[int]:
    return [choice.id.step for choice in choices(offers, run=RUN, generation=generation)]


def test_the_newest_that_every_rank_has_comes_first() -> None:
    assert chosen([offer(4, 0), offer(5, 0)], [offer(5, 1), offer(4, 1)]) == [5, 4]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([offer(5, 0)], []),
        ([offer(5, 0)], [offer(4, 1)]),
        ([offer(5, 0)], [offer(5, 0)]),
        ([offer(5, 0)], [offer(5, 1, token="of another worker group")]),
        ([offer(5, 0)], [offer(5, 1, id=attempt_id(5, nonce="01abcd"))]),
        ([offer(5, 0)], [offer(5, 1, id=attempt_id(5, attempt=2))]),
        ([offer(5, 0)], [offer(5, 1, world_size=3)]),
        ([offer(5, 0)], [offer(5, 1, run="another-run")]),
        ([offer(5, 0, world_size=3)], [offer(5, 1, world_size=3)]),
        ([], []),
    ],
)
def test_what_one_rank_lacks_is_nobody_s(first: list[Offer], second: list[Offer]) -> None:
    assert chosen(first, second) == []


def test_of_one_step_the_later_attempt_and_the_later_save_come_first() -> None:
    ids = [attempt_id(5, attempt=2), attempt_id(5, nonce="02abcd"), attempt_id(5, nonce="01abcd")]
    every = [[offer(5, shard, id=each) for each in reversed(ids)] for shard in range(2)]
    assert [choice.id for choice in choices(every, run=RUN, generation=1)] == ids


def test_a_later_launcher_s_start_ends_what_an_earlier_one_remembers() -> None:
    offers = [offer(5, 0)], [offer(5, 1)]
    assert chosen(*offers, generation=1) == [5]
    assert chosen(*offers, generation=2) == []


def test_a_shard_is_brought_by_the_rank_of_its_number_or_the_first_that_has_it() -> None:
    both = [offer(5, 0), offer(5, 1)]
    (own,) = choices([both, both], run=RUN, generation=1)
    assert (own.owners, own.sizes) == ((0, 1), (100, 101))
    (moved,) = choices([[offer(5, 1)], [], [offer(5, 0), offer(5, 1)]], run=RUN, generation=1)
    assert moved.owners == (2, 0)


# --- beside the storage ---


def resume(run_at: Path, *remembered: Remembered, run: str = RUN) -> Found | None:
    return find(LocalBackend(run_at), Circle(None), run=run, remembered=remembered)


def from_memory(step: int, **changes: Any) -> Remembered:
    return states.remembered(states.parts(1, steps=1), step, 0, changes.pop("world_size", 1), **changes)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Step 4 is committed, by generation 1."""
    generations.claim(LocalBackend(tmp_path), incarnation="first", resumed_from=None, host="here")
    states.store(tmp_path, states.parts(1, steps=1), 4, 1)
    return tmp_path


@pytest.mark.parametrize(("step", "wanted"), [(3, False), (4, True), (5, True)])
def test_memory_is_used_when_it_is_not_older_than_the_storage(stored: Path, step: int, *, wanted: bool) -> None:
    found = resume(stored, from_memory(step))
    assert found is not None
    assert found.head.from_memory == wanted
    assert found.head.progress["step"] == max(step, 4)


def test_memory_is_used_where_nothing_is_stored_yet(tmp_path: Path) -> None:
    found = resume(tmp_path, from_memory(2))
    assert found is not None
    assert (found.head.id, found.head.resumed_from, found.head.world_size) == (attempt_id(2), None, 1)


def test_what_is_stored_as_well_is_known_to_be(stored: Path) -> None:
    found = resume(stored, from_memory(4))
    assert found is not None
    assert (found.head.from_memory, found.head.resumed_from) == (True, attempt_id(4))
    other = resume(stored, from_memory(4, token="of another worker group"))
    assert other is not None
    assert other.head.resumed_from is None


@pytest.mark.parametrize("changes", [{"run": "another-run"}, {"world_size": 2}])
def test_another_run_s_memory_and_a_part_of_a_world_s_are_not_used(stored: Path, changes: dict[str, Any]) -> None:
    found = resume(stored, from_memory(5, **changes))
    assert found is not None
    assert not found.head.from_memory


def test_memory_is_not_used_after_another_launcher_has_started(stored: Path) -> None:
    backend = LocalBackend(stored)
    generations.claim(backend, incarnation="second", resumed_from=4, host="elsewhere")
    assert not found_from_memory(resume(stored, from_memory(5)))
    own = from_memory(5, id=AttemptId(5, 2, 1, "00abcd"))
    assert found_from_memory(resume(stored, own))


def found_from_memory(found: Found | None) -> bool:
    assert found is not None
    return found.head.from_memory


def torn(step: int) -> Remembered:
    remembered = from_memory(step)
    remembered.memory.view[remembered.seal.receipt.size - 1] ^= 1
    return remembered


def test_torn_memory_gives_way_to_older_memory_and_then_to_the_storage(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = resume(stored, torn(7), from_memory(6))
    assert found is not None
    assert found.head.progress["step"] == 6
    assert capsys.readouterr().err == (
        "relight: what the hosts' memory has of step 7 is not used: shard 0 in the memory of rank 0 is damaged: "
        "its checksums do not match its seal. Trying the one before it\n"
    )
    found = resume(stored, torn(7), torn(6))
    assert found is not None
    assert (found.head.progress["step"], found.head.from_memory) == (4, False)


def test_memory_that_is_shorter_than_its_seal_says_is_not_used(stored: Path) -> None:
    whole = from_memory(7)
    receipt = whole.seal.receipt
    longer = receipt.model_copy(update={"size": whole.memory.size + 1})
    short = Remembered(whole.seal.model_copy(update={"receipt": longer}), whole.memory)
    assert not found_from_memory(resume(stored, short))


def test_a_seal_of_a_failed_save_is_nothing_to_go_on_from(stored: Path) -> None:
    whole = from_memory(7)
    failed = whole.seal.receipt.model_copy(update={"size": 0, "blocks": (), "failed": "no room"})
    assert not found_from_memory(
        resume(stored, Remembered(whole.seal.model_copy(update={"receipt": failed}), whole.memory))
    )


def test_memory_between_two_stored_ones_is_next_when_the_newer_is_damaged(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states.store(stored, states.parts(1, steps=1), 9, 1)
    newest = stored / attempt_id(9).shard_key(0, 1)
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    found = resume(stored, from_memory(6))
    assert found is not None
    assert (found.head.progress["step"], found.head.from_memory) == (6, True)
    assert "checkpoint of step 9 is not used" in capsys.readouterr().err


def test_remembered_memory_stays_its_finder_s(stored: Path) -> None:
    remembered = from_memory(6)
    found = resume(stored, remembered)
    assert found is not None
    with found:
        assert not found.shelf.blanks
    assert len(remembered.memory.view) == remembered.memory.size
