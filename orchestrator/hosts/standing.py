"""What a host is to the others, from one round to the next."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from ..environment import Place
from .meeting import Meeting


@dataclass(slots=True)
class Standing:
    """What a host is to the others, over all rounds. `fresh`, `life` and `hosts` are those of its next `Offer`."""

    meeting: Meeting
    processes: int
    fresh: str
    life: str = ""
    hosts: int = 0
    rounds: int = 0

    @property
    def met(self) -> bool:
        return bool(self.life)

    def joined(self, place: Place) -> None:
        self.life, self.hosts = place.incarnation, place.group_world_size
        if self.life == self.fresh:
            self.fresh = uuid.uuid4().hex[:12]
