"""Loaders that keep their own position: what becomes of it when the number of ranks changes."""

from __future__ import annotations

import copy
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.tests.workers.checkpoint.streams import EVERYTHING, FileStream, Rigid, open_run
from relight.tests.workers.ranks import play
from relight.workers.checkpoint.loaders import own_state_for, unfit
from relight.workers.errors import StateMismatch


def test_in_the_same_world_every_rank_gets_its_own_state_back() -> None:
    states = [{"at": 3}, {"at": 4}]
    for part in (Rigid(0, 2), FileStream(0, 2)):
        assert [own_state_for("loader", part, states, rank, 2) for rank in range(2)] == states
        assert unfit("loader", part, 2, 2) is None


def test_another_world_is_refused_by_name_with_the_ways_out() -> None:
    with pytest.raises(StateMismatch) as caught:
        own_state_for("loader", Rigid(0, 2), [{}, {}, {}], 0, 2)
    assert str(caught.value) == unfit("loader", Rigid(0, 2), 3, 2)
    assert str(caught.value) == (
        "loader: the positions of the Rigid were saved by 3 ranks, here are 2, and a Rigid has no reshard() that says "
        "what becomes of them. Go on with 3 ranks; or give the loader a method reshard(states, rank, world_size) "
        "(docs/data.md); or pass no loader, and its data starts anew"
    )


# In which world each life of the run lives, and what its ranks read until the save and after it.
Lives = list[tuple[int, list[int], int]]


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(0, 12), min_size=9, max_size=9), st.integers(0, 5)),
        max_size=6,
    )
)
@settings(deadline=None)
def test_a_stream_that_offers_resharding_gives_every_record_once_in_any_sequence_of_worlds(lives: Lives) -> None:
    states = [FileStream(0, 1).state_dict()]
    seen: list[str] = []
    for world, until_saved, lost in [*lives, (1, [10**6], 0)]:
        streams = [FileStream(rank, world) for rank in range(world)]
        found = copy.deepcopy(states)
        resharded = [own_state_for("loader", it, states, rank, world) for rank, it in enumerate(streams)]
        assert states == found, "resharding has changed what it was given"
        for stream, state, count in zip(streams, resharded, until_saved, strict=False):
            stream.load_state_dict(state)
            seen += islice(stream, count)
        states = [stream.state_dict() for stream in streams]
        for stream in streams:  # Read after the save, and lost with the crash.
            list(islice(stream, lost))
    assert sorted(seen) == EVERYTHING


@pytest.fixture(scope="module")
def read_by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that two ranks have saved in the middle of their files, and what they had read."""
    directory = tmp_path_factory.mktemp("streams")
    first, second = play("relight.tests.workers.checkpoint.streams:reading", 2, directory)
    return directory / "run", first + second


def test_one_rank_reads_on_what_two_have_left(read_by_two: tuple[Path, list[str]]) -> None:
    url, seen = read_by_two
    stream = FileStream(0, 1)
    assert open_run(url, stream).restore().step == 1
    assert sorted([*seen, *stream]) == EVERYTHING


def test_a_loader_that_cannot_be_read_on_is_refused_before_anything_is_applied(
    read_by_two: tuple[Path, list[str]],
) -> None:
    stream = Rigid(0, 1)
    checkpointer = open_run(read_by_two[0], stream)
    with pytest.raises(StateMismatch) as caught:
        checkpointer.restore()
    assert "loader: the positions of the Rigid were saved by 2 ranks, here are 1" in str(caught.value)
    assert sorted(stream) == EVERYTHING


def test_without_the_loader_the_data_starts_anew(read_by_two: tuple[Path, list[str]]) -> None:
    assert open_run(read_by_two[0], None).restore().step == 1
