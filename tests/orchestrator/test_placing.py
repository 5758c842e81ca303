"""Every host comes to the same world; who was in the last one decides under which incarnation it goes on."""

from __future__ import annotations

from dataclasses import replace

from relight.orchestrator.hosts.placing import Offer, place_of

NEW = Offer("a", 2, 1, "fresh-a", address="10.0.0.1", port=4711)
OLD = replace(NEW, attempt=4, life="life", hosts=2)
OTHER = replace(OLD, host="b", processes=3, fresh="fresh-b", address="10.0.0.2", port=0)


def test_ranks_are_counted_through_the_hosts() -> None:
    offers = [NEW, replace(NEW, processes=3), replace(NEW, processes=1)]
    places = [place_of(rank, offers) for rank in range(3)]
    assert [rank for place in places for rank in place.ranks] == list(range(6))
    assert {(place.world_size, place.group_world_size) for place in places} == {(6, 3)}


def test_the_first_host_has_the_workers_store() -> None:
    places = [place_of(rank, [NEW, OTHER]) for rank in (0, 1)]
    assert {(place.master_addr, place.master_port) for place in places} == {("10.0.0.1", 4711)}


def test_the_attempt_is_the_highest_that_any_host_has_come_to() -> None:
    assert place_of(0, [NEW, OTHER]).attempt == place_of(1, [NEW, OTHER]).attempt == 4


def test_the_same_hosts_go_on_under_their_incarnation() -> None:
    assert place_of(0, [OLD, OTHER]).incarnation == "life"
    assert place_of(0, [OTHER, OLD]).incarnation == "life", "also when another one comes first"


def test_other_hosts_take_a_new_incarnation_that_fences_the_old_ones() -> None:
    assert place_of(0, [NEW]).incarnation == "fresh-a"
    assert place_of(0, [OLD]).incarnation == "fresh-a", "the other one was lost, and may still live"
    assert place_of(0, [OLD, replace(NEW, host="c")]).incarnation == "fresh-a", "one was replaced"
    assert place_of(0, [OLD, OTHER, replace(NEW, host="c")]).incarnation == "fresh-a", "one came in"
    assert place_of(0, [OLD, replace(OTHER, life="elsewhere")]).incarnation == "fresh-a", "one was away meanwhile"
