"""Who reads what: every block that anybody needs is read by one rank, and comes from there to all who need it. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Run = tuple[int, int]
"""Blocks [first, end) of a shard."""

Needs = Mapping[int, Sequence[Run]]
"""By number of the shard: the blocks that a rank needs, in order and apart."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Blocks of one shard that the same ranks need, and who of all ranks brings them."""

    shard: int
    first: int
    end: int
    reader: int
    needed_by: frozenset[int]

    @property
    def is_private(self) -> bool:
        """Whether nobody but its reader looks at it."""
        return self.needed_by == {self.reader}


def assign(needs: Sequence[Needs], owners: Sequence[int], there: Sequence[int]) -> list[Parcel]:
    """The parcels, in order of shard and block; every rank comes to the same.

    `needs[r]` is what rank r needs. Of shard n its owner, `owners[n]`, has the first `there[n]` blocks already. It
    brings the others too where it needs them and there are shards for everybody; else those who need them share the
    work, so that all read about as much.
    """
    loads = [0] * len(needs)
    parcels = []
    enough = len(owners) >= len(needs)
    for shard, owner in enumerate(owners):
        for first, end, needed_by in _stretches([need.get(shard, ()) for need in needs], there[shard]):
            if end <= there[shard]:
                parcels.append(Parcel(shard, first, end, owner, needed_by))
                continue
            able = [owner] if enough and owner in needed_by else sorted(needed_by)
            for low, high in _cut(first, end, len(able)):
                reader = min(able, key=lambda rank: (loads[rank], rank))
                loads[reader] += high - low
                parcels.append(Parcel(shard, low, high, reader, needed_by))
    return parcels


def _stretches(runs: Sequence[Sequence[Run]], border: int) -> list[tuple[int, int, frozenset[int]]]:
    """Blocks that follow each other and are needed by the same ranks; none goes over the border."""
    changes: dict[int, list[tuple[int, bool]]] = {border: []}
    for rank, own in enumerate(runs):
        for first, end in own:
            changes.setdefault(first, []).append((rank, True))
            changes.setdefault(end, []).append((rank, False))
    found = []
    needing: set[int] = set()
    before = 0
    for place in sorted(changes):
        if needing and before < place:
            found.append((before, place, frozenset(needing)))
        for rank, begins in sorted(changes[place], key=lambda change: change[1]):
            (needing.add if begins else needing.discard)(rank)
        before = place
    return found


def _cut(first: int, end: int, count: int) -> list[Run]:
    """The blocks in up to `count` stretches of about the same length."""
    cuts = [first + (end - first) * number // count for number in range(count + 1)]
    return [(low, high) for low, high in itertools.pairwise(cuts) if low < high]


def blocks(spans: Sequence[tuple[int, int]], block_bytes: int) -> list[Run]:
    """The blocks that hold these bytes."""
    runs: list[Run] = []
    for start, end in sorted(spans):
        first, last = start // block_bytes, -(-end // block_bytes)
        if runs and first <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(runs[-1][1], last))
        else:
            runs.append((first, last))
    return runs
