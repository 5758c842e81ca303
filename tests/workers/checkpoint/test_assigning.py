"""Who reads which blocks."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relight.workers.checkpoint.assigning import Parcel, Run, assign, blocks

BLOCKS = 12
RUNS = st.lists(st.integers(0, BLOCKS), max_size=6).map(lambda cuts: apart(sorted(set(cuts))))


def apart(cuts: list[int]) -> list[Run]:
    """Runs that neither touch nor overlap."""
    return list(zip(cuts[::2], cuts[1::2], strict=False))


def spread(parcels: list[Parcel]) -> Counter[tuple[int, int]]:
    return Counter((parcel.shard, block) for parcel in parcels for block in range(parcel.first, parcel.end))


@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_every_block_that_is_needed_is_brought_once_to_all_who_need_it(
    data: st.DataObject, ranks: int, shards: int
) -> None:
    needs = [{shard: data.draw(RUNS) for shard in range(shards)} for _ in range(ranks)]
    there = [data.draw(st.integers(0, BLOCKS)) for _ in range(shards)]
    owners = [shard % ranks for shard in range(shards)]
    parcels = assign(needs, owners, there)
    wanted = {
        (shard, block): frozenset(
            rank for rank, need in enumerate(needs) if any(first <= block < end for first, end in need[shard])
        )
        for shard in range(shards)
        for block in range(BLOCKS)
    }
    brought = {(parcel.shard, block): parcel for parcel in parcels for block in range(parcel.first, parcel.end)}
    assert max(spread(parcels).values(), default=1) == 1
    assert {place: parcel.needed_by for place, parcel in brought.items()} == {
        place: ranks_in_need for place, ranks_in_need in wanted.items() if ranks_in_need
    }
    for (shard, block), parcel in brought.items():
        assert parcel.reader == owners[shard] if block < there[shard] else parcel.reader in parcel.needed_by


def test_where_all_need_all_every_owner_reads_its_own() -> None:
    needs = [{shard: [(0, 10)] for shard in range(4)}] * 4
    parcels = assign(needs, range(4), [1] * 4)
    assert all(parcel.reader == parcel.shard for parcel in parcels)


def test_one_shard_is_read_by_all_who_need_it() -> None:
    parcels = assign([{0: [(0, 40)]}] * 4, [0], [0])
    assert [(parcel.first, parcel.end, parcel.reader) for parcel in parcels] == [
        (0, 10, 0),
        (10, 20, 1),
        (20, 30, 2),
        (30, 40, 3),
    ]


def test_what_one_rank_alone_needs_it_reads_itself() -> None:
    parcels = assign([{1: [(3, 9)]}, {0: [(2, 5)]}], [0, 1], [1, 1])
    assert [(parcel.shard, parcel.reader, parcel.is_private) for parcel in parcels] == [(0, 1, True), (1, 0, True)]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 50)), max_size=8))
def test_blocks_hold_the_bytes_and_nothing_far_from_them(spans: list[tuple[int, int]]) -> None:
    touched = {byte // 16 for start, length in spans for byte in range(start, start + length)}
    runs = blocks([(start, start + length) for start, length in spans], 16)
    assert {block for first, end in runs for block in range(first, end)} == touched
    assert all(end < first for (_, end), (first, _) in itertools.pairwise(runs))
