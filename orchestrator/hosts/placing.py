"""From what every host of a round says of itself to where each stands. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..environment import Place


@dataclass(frozen=True, slots=True)
class Offer:
    """What one host says when it comes.

    `attempt` is the least that it can take part in. `life` and `hosts` are the incarnation of the last round that it
    was in, and how many hosts that had ("" and 0: in none); `fresh` is an incarnation that nobody has had yet.
    `address` and `port` say where the workers' store is, if this host comes first.
    """

    host: str
    processes: int
    attempt: int
    fresh: str
    life: str = ""
    hosts: int = 0
    address: str = ""
    port: int = 0


def place_of(rank: int, offers: Sequence[Offer], interface: str = "") -> Place:
    """The place of the host with that group rank: every host comes to the same world."""
    counts = [offer.processes for offer in offers]
    first = offers[0]
    return Place(
        group_rank=rank,
        group_world_size=len(offers),
        first_rank=sum(counts[:rank]),
        world_size=sum(counts),
        local_world_size=counts[rank],
        master_addr=first.address,
        master_port=first.port,
        attempt=max(offer.attempt for offer in offers),
        incarnation=_incarnation(offers),
        interface=interface,
    )


def _incarnation(offers: Sequence[Offer]) -> str:
    """The same hosts go on under the incarnation they had. Others take a new one, and with it a generation that
    fences whoever is not among them any more, though it may still live.
    """
    lives = {offer.life for offer in offers}
    sizes = {offer.hosts for offer in offers}
    if len(lives) == 1 and sizes == {len(offers)} and "" not in lives:
        return offers[0].life
    return offers[0].fresh
