"""How long a remote store is insisted on: one deadline and one budget of retries for each operation, jittered.

`Patience` is a pure rule; `Budget` is one operation's share of it; `insist` is the loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

T = TypeVar("T")

_BYTES_PER_RETRY: Final = 64 << 20
_DICE: Final = random.SystemRandom()
"""Not `random` itself: its generator is the training's, and a retry in mid-step would change what that draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Times in seconds. The two timeouts bound one request, `deadline_s` and `retries` the whole operation.

    A large object is given more of both: a second for every `slowest_bytes_per_s`, a retry for every 64 MiB.
    """

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    deadline_s: float = 120.0
    slowest_bytes_per_s: int = 1 << 20
    retries: int = 12
    retries_of_a_stranger: int = 4
    """A store that has never answered is more likely misspelt than down."""
    first_wait_s: float = 0.1
    longest_wait_s: float = 8.0

    def limit_s(self, size: int) -> float:
        """How long an operation on `size` bytes may take."""
        return self.deadline_s + size / self.slowest_bytes_per_s

    def wait_s(self, retry: int, *, size: int, stranger: bool, dice: float) -> float | None:
        """The pause before the retry of that number (from 0), or None when the budget is spent.

        `dice` in [0, 1) spreads those who failed together over the upper half of a doubling wait.
        """
        allowed = self.retries_of_a_stranger if stranger else self.retries + size // _BYTES_PER_RETRY
        if retry >= allowed:
            return None
        whole = min(self.first_wait_s * 2.0 ** min(retry, 30), self.longest_wait_s)
        return whole * (0.5 + dice / 2)


@dataclass(slots=True)
class Budget:
    """One operation's retries, shared by all its requests. `stranger` says whether the store has ever answered."""

    patience: Patience
    size: int = 0
    stranger: Callable[[], bool] = bool
    spent: int = 0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def limit_s(self) -> float:
        return self.patience.limit_s(self.size)

    async def pause(self, error: Exception) -> None:
        """Wait before the next try; raises `error` when there is none."""
        dice = _DICE.random()
        wait_s = self.patience.wait_s(self.spent, size=self.size, stranger=self.stranger(), dice=dice)
        if wait_s is None or time.monotonic() - self.started_s + wait_s > self.limit_s:
            raise error
        self.spent += 1
        await asyncio.sleep(wait_s)


async def insist(
    act: Callable[[], Awaitable[T]],
    budget: Budget,
    *,
    foreign: tuple[type[Exception], ...],
    passing: Callable[[Exception], bool],
) -> T:
    """The result of `act`, tried again while its `foreign` errors are `passing` ones and the budget lasts."""
    while True:
        try:
            return await act()
        except foreign as error:
            if not passing(error):
                raise
            await budget.pause(error)
