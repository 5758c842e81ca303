"""Who shares a host with whom, and by which way a shard comes to every host. Pure: every rank works out the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hosts:
    """The ranks in groups; those of one group map each other's memory.

    Between the groups run as many rails as the smallest has ranks: the k-th ranks of all groups, who pass on what lies
    in the memory of their places. So the network is used by as many ranks at once as every host has.
    """

    groups: tuple[tuple[int, ...], ...]

    @property
    def rails(self) -> tuple[tuple[int, ...], ...]:
        """The ranks of each rail, one of each group."""
        return tuple(zip(*self.groups, strict=False))  # As long as the shortest group.

    def group_of(self, rank: int) -> tuple[int, ...]:
        return next(group for group in self.groups if rank in group)

    def porter(self, owner: int, group: Sequence[int]) -> int:
        """The rank of `group` on the rail by which the shards of `owner` travel."""
        return group[self.group_of(owner).index(owner) % len(self.rails)]

    def holder(self, owner: int, rank: int) -> int:
        """In whose memory the shards of `owner` lie for `rank`: the owner's on its own host, else the porter's."""
        group = self.group_of(rank)
        return owner if owner in group else self.porter(owner, group)

    def travels(self, owner: int, needed_by: Collection[int]) -> bool:
        """Whether what `owner` has is needed on another host."""
        group = self.group_of(owner)
        return not all(rank in group for rank in needed_by)


def meet(hosts: Sequence[str], reached: Sequence[Collection[int]]) -> Hosts:
    """Ranks that say the same of their host and have reached each other's memory, both ways, make a group.

    `hosts[r]` is what rank r says of its host, `reached[r]` are the ranks whose memory it could map. A rank that
    cannot reach its neighbours, or be reached, is a host of its own: it gets everything by the network.
    """
    groups: list[list[int]] = []
    for rank, host in enumerate(hosts):
        for group in groups:
            if hosts[group[0]] == host and all(other in reached[rank] and rank in reached[other] for other in group):
                group.append(rank)
                break
        else:
            groups.append([rank])
    return Hosts(tuple(map(tuple, groups)))
