"""An S3 server that is killed in the middle of a save, at a request of that save's, and comes back with its data."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from relight.tests.proxy import Fault
from relight.tests.servers import Server, free_ports, seaweedfs

T = TypeVar("T")

MOMENTS: Final = (
    ("PUT", "/rank-00000-of-"),
    ("PUT", "/rank-00001-of-"),
    ("PUT", "/receipts/rank-"),
    ("PUT", "/manifest.json"),
    ("DELETE", "/manifest.json"),
)
"""Requests of a save, from its first shard to what retention does after it, by method and part of the path."""
LONGEST_DELAY_S: Final = 0.01


class MortalServer:
    """A SeaweedFS with the same ports and the same data in each of its lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports(10)
        self._life = ExitStack()
        self.server = self._begin()

    def _begin(self) -> Server:
        return self._life.enter_context(seaweedfs(self._folder, self._ports))

    def kill(self) -> None:
        """SIGKILL, and no more: may be called from any thread."""
        self.server.process.kill()

    def come_back(self) -> None:
        """Returns when an object can be put again."""
        self.close()
        self.server = self._begin()

    def close(self) -> None:
        self._life.close()


@dataclass(frozen=True)
class Death(Generic[T]):
    request: str
    witnessed: T
    """What was true just before."""


class Trap(Generic[T]):
    """Stands in a proxy's way (`choose`). Armed, it lets the server die once, at a random request of a save."""

    def __init__(self, kill: Callable[[], None], witness: Callable[[], T], dice: random.Random) -> None:
        self._kill = kill
        self._witness = witness
        self._dice = dice
        self._moment: tuple[str, str] | None = None
        self.death: Death[T] | None = None

    def arm(self) -> None:
        self.death = None
        self._moment = self._dice.choice(MOMENTS)

    def choose(self, method: str, path: str) -> Fault | None:
        if self._moment is None or method != self._moment[0] or self._moment[1] not in path:
            return None
        self._moment = None
        self.death = Death(f"{method} {path.partition('?')[0].rpartition('/checkpoints/')[2]}", self._witness())
        delay_s = self._dice.choice((0.0, self._dice.uniform(0, LONGEST_DELAY_S)))
        if delay_s:  # It gets the request, and dies over it or just after.
            threading.Timer(delay_s, self._kill).start()
        else:
            self._kill()
        return None
