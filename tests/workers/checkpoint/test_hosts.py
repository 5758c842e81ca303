"""Who maps whose memory, and by which ranks a shard comes to the other hosts."""

from __future__ import annotations

import pytest

from relight.workers.checkpoint.hosts import Hosts, meet

EVERYBODY = range(100)


def test_ranks_of_one_host_make_a_group_wherever_they_are() -> None:
    hosts = ["a", "b", "a", "b"]
    assert meet(hosts, [EVERYBODY] * 4).groups == ((0, 2), (1, 3))


@pytest.mark.parametrize("whose", ["it reaches nobody", "nobody reaches it"])
def test_a_rank_that_cannot_reach_its_neighbours_both_ways_is_a_host_of_its_own(whose: str) -> None:
    reached: list[list[int]] = [[0, 1, 2]] * 3
    reached = [[0, 1, 2], [1], [0, 1, 2]] if whose == "it reaches nobody" else [[0, 2], [0, 1, 2], [0, 2]]
    assert meet(["a"] * 3, reached).groups == ((0, 2), (1,))


def test_reaching_a_rank_that_says_it_is_elsewhere_makes_no_neighbour() -> None:
    assert meet(["a", "b"], [EVERYBODY] * 2).groups == ((0,), (1,))


def test_one_host_needs_no_porter_but_the_owner() -> None:
    hosts = Hosts(((0, 1, 2),))
    assert [[hosts.holder(owner, rank) for owner in range(3)] for rank in range(3)] == [[0, 1, 2]] * 3


def test_even_hosts_are_joined_by_a_rail_for_each_place() -> None:
    hosts = Hosts(((0, 1), (2, 3)))
    assert hosts.rails == ((0, 2), (1, 3))
    assert [hosts.holder(owner, 2) for owner in range(4)] == [2, 3, 2, 3]
    assert [hosts.holder(owner, 1) for owner in range(4)] == [0, 1, 0, 1]


def test_between_uneven_hosts_there_are_as_many_rails_as_the_smallest_has_ranks() -> None:
    hosts = Hosts(((0, 1, 2), (3, 4)))
    assert hosts.rails == ((0, 3), (1, 4))
    assert hosts.porter(2, (0, 1, 2)) == 0  # Rank 2 is on no rail: a neighbour passes its shards on.
    assert [hosts.holder(owner, 4) for owner in range(5)] == [3, 4, 3, 3, 4]


@pytest.mark.parametrize(
    "groups", [((0, 1), (2, 3)), ((0, 1, 2), (3, 4)), ((0,), (1, 2, 3), (4, 5)), ((0, 3, 1), (2,))]
)
def test_every_shard_lies_in_one_memory_of_each_host(groups: tuple[tuple[int, ...], ...]) -> None:
    hosts = Hosts(groups)
    everybody = [rank for group in groups for rank in group]
    for owner in everybody:
        for group in groups:
            assert len({hosts.holder(owner, rank) for rank in group}) == 1
            assert hosts.holder(owner, group[0]) in group
        porters = {hosts.porter(owner, group) for group in groups}
        assert any(porters == set(rail) for rail in hosts.rails)
