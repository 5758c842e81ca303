"""A restore by several ranks on one host or many: every byte read once, nothing sent that can be mapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relight.storage.backends.local import LocalBackend
from relight.storage.catalog import Catalog
from relight.tests.workers.checkpoint import states
from relight.tests.workers.ranks import play
from relight.workers.checkpoint.state import Parts

SCENES = "relight.tests.workers.checkpoint.restores"

ONE_HOST = ["a"] * 4
TWO_BY_TWO = ["a", "a", "b", "b"]
UNEVEN = ["a", "a", "a", "b"]
MIXED = ["a", "b", "a", "b"]

WAYS_OF_FOUR = [
    {"run": f"by-{saved_by}", "hosts": hosts}
    for saved_by, hosts in [
        (4, ONE_HOST),
        (4, TWO_BY_TWO),
        (4, UNEVEN),
        (4, MIXED),
        (1, TWO_BY_TWO),
        (2, UNEVEN),
        (6, ONE_HOST),
        (6, TWO_BY_TWO),
    ]
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same state, saved by worlds of several sizes."""
    root = tmp_path_factory.mktemp("restores")
    for world_size in (1, 2, 4, 6):
        states.store(root / f"by-{world_size}", trained(), 5, world_size)
    return root


def trained() -> Parts:
    return states.parts(7, steps=3)


@pytest.fixture(scope="module")
def four(directory: Path) -> list[list[dict[str, Any]]]:
    """What each of four ranks tells of every way."""
    (directory / "ways.json").write_text(json.dumps(WAYS_OF_FOUR))
    return play(f"{SCENES}:everywhere", 4, directory)


def told(four: list[list[dict[str, Any]]], fact: str) -> list[list[Any]]:
    """By way: what every rank told."""
    return [[answer[fact] for answer in answers] for answers in zip(*four, strict=True)]


def test_every_rank_has_the_state_bit_by_bit(four: list[list[dict[str, Any]]]) -> None:
    saved = states.fingerprint(trained())
    assert told(four, "state") == [[saved] * 4] * len(WAYS_OF_FOUR)


def test_at_the_same_world_size_every_rank_s_own_generators_go_on(four: list[list[dict[str, Any]]]) -> None:
    own = [states.first_draw(rank) for rank in range(4)]
    same = [draws == own for draws in told(four, "draw")]
    assert same == [way["run"] == "by-4" for way in WAYS_OF_FOUR]


def test_every_byte_is_read_once_by_all_hosts_together(four: list[list[dict[str, Any]]], directory: Path) -> None:
    for way, read in zip(WAYS_OF_FOUR, told(four, "read"), strict=True):
        manifest = Catalog(LocalBackend(directory / str(way["run"]))).find().manifest
        assert manifest.size <= sum(read) <= 1.05 * manifest.size, way
        if manifest.world_size == 4:
            assert read == [shard.size for shard in manifest.shards]


def test_on_one_host_nothing_is_sent(four: list[list[dict[str, Any]]]) -> None:
    sent = [any(rails) for rails in told(four, "rails")]
    assert sent == [way["hosts"] != ONE_HOST for way in WAYS_OF_FOUR]


def test_hosts_are_joined_by_rails(four: list[list[dict[str, Any]]]) -> None:
    by_hosts = {tuple(way["hosts"]): rails[0] for way, rails in zip(WAYS_OF_FOUR, told(four, "rails"), strict=True)}
    assert by_hosts[tuple(TWO_BY_TWO)] == [[0, 2], [1, 3]]
    assert by_hosts[tuple(MIXED)] == [[0, 1], [2, 3]]
    assert by_hosts[tuple(UNEVEN)] == [[0, 3]]


def test_no_memory_is_left_behind(four: list[list[dict[str, Any]]]) -> None:
    assert told(four, "left") == [[[]] * 4] * len(WAYS_OF_FOUR)


def test_two_ranks_take_what_more_and_fewer_have_saved(directory: Path) -> None:
    ways = [{"run": f"by-{saved_by}", "hosts": ["a", "a"]} for saved_by in (1, 2, 4)]
    (directory / "ways.json").write_text(json.dumps(ways))
    saved = states.fingerprint(trained())
    for answers in play(f"{SCENES}:everywhere", 2, directory):
        assert [answer["state"] for answer in answers] == [saved] * 3


def test_memory_that_cannot_be_reached_is_sent(tmp_path: Path) -> None:
    for another_user, all_hide in play(f"{SCENES}:refused", 3, tmp_path):
        assert another_user == {"groups": [[0, 2], [1]], "right": True}
        assert all_hide == {"groups": [[0], [1], [2]], "right": True}


def test_a_rank_without_room_for_what_is_sent_is_named_by_all(tmp_path: Path) -> None:
    first, second = play(f"{SCENES}:no_room", 2, tmp_path)
    assert first == second
    assert first.startswith("rank 1 cannot make room for the shards that other ranks have read: [Errno ")


def test_what_the_ranks_remember_is_gone_on_from_without_reading(tmp_path: Path) -> None:
    states.store(tmp_path / "run", states.parts(7, steps=2), 4, 2)
    size = Catalog(LocalBackend(tmp_path / "run")).find().manifest.size
    first, second = play(f"{SCENES}:remembering", 2, tmp_path)
    saved = states.fingerprint(states.parts(7, steps=2))
    for case, wanted in {
        "all have the newest": (6, True, None),
        "one lacks the newest": (5, True, None),
        "older than the storage's": (4, False, 4),
        "the storage's own": (4, True, 4),
        "one is torn": (5, True, None),
        "all are torn": (4, False, 4),
    }.items():
        for answer in (first[case], second[case]):
            assert (answer["step"], answer["from memory"], answer["committed"]) == wanted, case
            assert answer["state"] == saved, case
            assert answer["kept"], case
        assert first[case]["read"] + second[case]["read"] == (0 if wanted[1] else size), case
