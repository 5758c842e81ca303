"""What the memory of living hosts still holds: whole arenas of workers that have died, restored without any I/O."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...storage import checksum
from ...storage.errors import Damaged
from ...storage.layout import AttemptId
from ...storage.manifest import Record
from ...storage.shards import header_bytes
from ...storage.shared_memory import SharedMemory
from ...storage.staged import Seal
from .candidate import Start
from .collective import Circle


@dataclass(frozen=True, slots=True)
class Remembered:
    """A sealed arena that this rank has found. It stays its finder's: a restore looks at it and closes nothing."""

    seal: Seal
    memory: SharedMemory


class Offer(NamedTuple):
    """What a rank tells the others of an arena: one shard of one attempt, as its seal has it."""

    id: AttemptId
    token: str
    run: str
    world_size: int
    shard: int
    size: int


class Choice(Record):
    """An attempt of which every shard is in some rank's memory: shard n in that of `owners[n]`, `sizes[n]` bytes."""

    name: str
    token: str
    owners: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def id(self) -> AttemptId:
        attempt = AttemptId.parse(self.name)
        assert attempt is not None
        return attempt


def choices(offers: Sequence[Sequence[Offer]], *, run: str, generation: int) -> list[Choice]:
    """The attempts that can be restored from what the ranks offer (`offers[r]` is rank r's), newest first. Pure.

    They are of this `run`, and of its newest `generation`: once a later launcher has started, what an earlier one kept
    in memory lies on a branch that nobody knows the end of. An attempt counts only when all its shards are offered, by
    whichever ranks; a shard that several offer is brought by the rank of its number, or the first that has it.
    """
    holders: dict[tuple[AttemptId, str, int], dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for rank, offered in enumerate(offers):
        for offer in offered:
            if offer.run == run and offer.id.generation >= generation:
                holders[offer.id, offer.token, offer.world_size][offer.shard][rank] = offer.size
    found = []
    for (attempt, token, world_size), shards in sorted(holders.items(), reverse=True):
        if sorted(shards) == list(range(world_size)):
            owners = tuple(number if number in shards[number] else min(shards[number]) for number in range(world_size))
            sizes = tuple(shards[number][owner] for number, owner in enumerate(owners))
            found.append(Choice(name=attempt.name, token=token, owners=owners, sizes=sizes))
    return found


def exchange_offers(remembered: Sequence[Remembered], circle: Circle) -> list[list[Offer]]:
    """What every rank has, in order of rank. A collective."""
    mine = [_spelled(_offer(each.seal)) for each in remembered]
    texts = circle.exchange(json.dumps(mine) if mine else "")
    return [[_read(spelled) for spelled in json.loads(text or "[]")] for text in texts]


def _offer(seal: Seal) -> Offer:
    return Offer(seal.id, seal.token, seal.run, seal.world_size, seal.receipt.rank, seal.receipt.size)


def _spelled(offer: Offer) -> list[Any]:
    return [offer.id.name, *offer[1:]]


def _read(spelled: list[Any]) -> Offer:
    attempt = AttemptId.parse(spelled[0])
    assert attempt is not None
    return Offer(attempt, *spelled[1:])


class Kept:
    """A chosen attempt as a candidate: its shards are where they were staged, and are proven against their seals."""

    from_memory = True

    def __init__(self, choice: Choice, remembered: Sequence[Remembered], *, committed: bool = False) -> None:
        """`committed`: it is in storage as well."""
        self.id = choice.id
        self.owners = choice.owners
        self.sizes = choice.sizes
        self.resumed_from = choice.id if committed else None
        self._mine: Mapping[int, Remembered] = {
            each.seal.receipt.rank: each
            for each in remembered
            if (each.seal.id, each.seal.token) == (choice.id, choice.token)
        }

    def name_of(self, number: int) -> str:
        return f"shard {number} in the memory of rank {self.owners[number]}"

    def begin(self, number: int) -> Start:
        """All of it, where it is. Raises Damaged."""
        kept = self._mine[number]
        receipt = kept.seal.receipt
        content = kept.memory.view[: receipt.size]
        if checksum.hash_blocks(content, receipt.block_bytes) != receipt.blocks:
            raise Damaged(self.name_of(number), "its checksums do not match its seal")
        length = header_bytes(bytes(content[:8]), receipt.size, self.name_of(number))
        return Start(bytes(content[:length]), receipt.block_bytes, len(receipt.blocks), kept.memory)

    def read(self, number: int, blocks: range, buffer: memoryview) -> None:  # noqa: ARG002 -- the protocol has it
        """Never asked for: `begin` has brought all of it."""
        raise AssertionError(f"blocks {blocks} of {self.name_of(number)} were to be read, which is whole in memory")
