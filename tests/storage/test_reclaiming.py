"""What somebody beside the launcher may delete: never what is being written, never what a run needs. As tables."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.storage.catalog import Listed, Standing
from relight.storage.generations import Generation
from relight.storage.layout import AttemptId
from relight.storage.reclaiming import reclaimable, viewpoint
from relight.storage.retention import Rules
from relight.tests.storage.checkpoints import attempt_id, names

COMMITTED, UNFINISHED, FENCED, DAMAGED = (
    Standing.COMMITTED, Standing.UNFINISHED, Standing.FENCED, Standing.DAMAGED,
)  # fmt: skip


def known(*resumed_from: int | None) -> dict[int, Generation | None]:
    return {number: Generation(number, f"life {number}", step) for number, step in enumerate(resumed_from, 1)}


def listed(*attempts: tuple[int, int, int, Standing]) -> list[Listed]:
    """Step, generation, attempt, standing."""
    return [Listed(attempt_id(*each[:3]), each[3]) for each in sorted(attempts, reverse=True)]


@pytest.mark.parametrize(
    ("attempt", "goes"),
    [
        ((10, 1, 1, UNFINISHED), True),
        ((90, 1, 4, UNFINISHED), True),
        ((90, 2, 1, UNFINISHED), True),
        ((25, 2, 2, UNFINISHED), True),
        ((40, 2, 2, UNFINISHED), False),
        ((10, 2, 3, UNFINISHED), False),
        ((90, 3, 1, UNFINISHED), False),
        ((90, 1, 1, FENCED), True),
        ((90, 1, 1, DAMAGED), False),
        ((90, 1, 1, COMMITTED), False),
    ],
)
def test_without_a_rule_only_what_nobody_can_use_or_still_writes_goes(
    attempt: tuple[int, int, int, Standing],
    goes: bool,  # noqa: FBT001 -- a table's column
) -> None:
    listing = listed((30, 2, 2, COMMITTED), attempt)
    going = reclaimable(listing, known(None, 20), None)
    assert names(each.id for each in going) == ([attempt[:3]] if goes else [])


def test_until_the_newest_generation_has_committed_something_all_of_its_attempts_stay() -> None:
    listing = listed((10, 1, 1, COMMITTED), (12, 2, 1, UNFINISHED), (14, 2, 2, UNFINISHED), (12, 1, 1, UNFINISHED))
    assert names(each.id for each in reclaimable(listing, known(None, 10), None)) == [(12, 1, 1)]
    assert viewpoint(listing, 2, ended=False) == AttemptId(0, 2, 0, "000000")


def test_what_an_ended_launcher_left_goes_and_nothing_goes_while_a_dead_worker_s_persister_writes() -> None:
    listing = listed((10, 1, 1, COMMITTED), (12, 1, 1, UNFINISHED))
    assert names(each.id for each in reclaimable(listing, known(None), None, ended=True)) == [(12, 1, 1)]
    assert reclaimable(listing, known(None), None, ended=True, spare_unfinished=True) == []


def test_retention_s_rules_hold_and_what_the_run_went_on_from_stays() -> None:
    listing = listed(*((step, 2, 1, COMMITTED) for step in (10, 20, 30, 40)))
    going = reclaimable(listing, known(None, 10), Rules(keep_last=1))
    assert [(each.id.step, each.why) for each in going] == [(20, "no rule keeps it"), (30, "no rule keeps it")]


ATTEMPTS = st.builds(attempt_id, st.integers(0, 9), st.integers(1, 3), st.integers(1, 3))
LISTINGS = st.lists(st.builds(Listed, ATTEMPTS, st.sampled_from(Standing)), unique_by=lambda each: each.id, max_size=12)


@settings(max_examples=300, deadline=None)
@given(LISTINGS, st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_whatever_is_there_the_newest_committed_and_the_newest_generation_s_next_save_stay(
    listing: list[Listed],
    newest: int,
    keep_last: int,
    ended: bool,  # noqa: FBT001 -- what is drawn
) -> None:
    listing.sort(key=lambda each: each.id, reverse=True)
    generations = known(*[None] * newest)
    for rules in (None, Rules(keep_last=keep_last)):
        going = {each.id for each in reclaimable(listing, generations, rules, ended=ended)}
        committed = [each.id for each in listing if each.standing is COMMITTED]
        assert going.isdisjoint(committed[: keep_last if rules else None])
        done = max((each.id.step for each in listing if each.standing is not UNFINISHED), default=-1)
        being_written = {
            each.id for each in listing
            if each.standing is UNFINISHED and each.id.generation >= newest and each.id.step > done
            and each.id.attempt == 3
        }  # fmt: skip
        assert ended or going.isdisjoint(being_written)
