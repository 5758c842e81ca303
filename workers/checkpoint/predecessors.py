"""What the workers before have staged and not finished: found in memory, or waited for until it is in storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...storage import living
from .collective import Circle
from .leftovers import sealed
from .remembering import Remembered, choices, exchange_offers
from .saving import SaveSettings

_SEALING_S: Final = 30.0
"""Hashing what is in memory takes a second at the most; whoever takes longer hangs."""


def recall(url: str, circle: Circle, settings: SaveSettings, *, run: str) -> list[Remembered]:
    """What this host's memory holds for this rank. A collective.

    Where it is not enough to go on from, what the dead workers' persisters are still writing is waited for, so that a
    staged save is not thrown away: nobody is to commit any more once the checkpoint to go on from is chosen.
    """
    living.wait_sealed(url, _SEALING_S, [circle.rank])
    remembered = [Remembered(seal, memory) for seal, memory in sealed(circle.rank, settings.memory_dir)]
    if not choices(exchange_offers(remembered, circle), run=run, generation=0):
        _wait_for_writers(url, circle, settings.deadline_s)
    return remembered


def forget(remembered: Sequence[Remembered]) -> None:
    """Let go of it."""
    for each in remembered:
        each.memory.close()


def _wait_for_writers(url: str, circle: Circle, deadline_s: float) -> None:
    others = [each.rank for each in living.predecessors(url) if each.rank != 0]
    living.wait_persisted(url, deadline_s, others)
    circle.meet()  # On all hosts: from here on no more receipts come.
    living.call_off(url)
    living.wait_persisted(url, deadline_s)
    circle.meet()
