"""How long a remote store is insisted on: one deadline and one budget of retries for each operation, jittered.

`Patience` is a pure rule; `Contact` is what is known of the store; `Budget` is one operation's share; `insist` is the
loop. A store that stays silent is told of once, after some seconds, long before an operation is given up.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)

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
    silent_s: float = 5.0
    """A store that has not answered for so long is told of."""
    given_up_for_s: float = 6.0
    """So long after an operation was given up, the next ones (they clean up after it) get `brief_s` and few retries."""
    brief_s: float = 3.0

    def limit_s(self, size: int) -> float:
        """How long an operation on `size` bytes may take."""
        return self.deadline_s + size / self.slowest_bytes_per_s

    def wait_s(self, retry: int, *, size: int, few: bool, dice: float) -> float | None:
        """The pause before the retry of that number (from 0), or None when the budget is spent.

        `few`: the store has never answered, or was just given up. `dice` in [0, 1) spreads those who failed together
        over the upper half of a doubling wait.
        """
        allowed = self.retries_of_a_stranger if few else self.retries + size // _BYTES_PER_RETRY
        if retry >= allowed:
            return None
        whole = min(self.first_wait_s * 2.0 ** min(retry, 30), self.longest_wait_s)
        return whole * (0.5 + dice / 2)


class Contact:
    """What all operations of one client know of a store: has it ever answered, does it now, was it given up."""

    def __init__(self, patience: Patience, describe: Callable[[Exception], str] = str) -> None:
        """`describe` says for a log line where the store is and what an error means."""
        self.patience = patience
        self.answered = False
        self._describe = describe
        self._heard_s = -math.inf
        self._given_up_s = -math.inf
        self._told = False

    def heard(self) -> None:
        """The store has answered."""
        self.answered = True
        self._heard_s = time.monotonic()
        self._given_up_s = -math.inf
        self._told = False

    def gave_up(self) -> None:
        """An operation has spent all its budget: those that come at once after it are given little."""
        self._given_up_s = time.monotonic()

    @property
    def is_given_up(self) -> bool:
        return time.monotonic() - self._given_up_s < self.patience.given_up_for_s

    def until_told_s(self, started_s: float) -> float:
        """How much longer an operation that began then may wait in silence; infinite once a person was told."""
        if self._told:
            return math.inf
        return max(0.0, max(self._heard_s, started_s) + self.patience.silent_s - time.monotonic())

    def tell(self, error: Exception, left_s: float) -> None:
        """One line for each time that the store falls silent."""
        self._told = True
        until = (datetime.now().astimezone() + timedelta(seconds=left_s)).strftime("%H:%M:%S")
        _log.warning(
            "%s. Nothing has come through for %g s; it is tried again until %s at the latest",
            self._describe(error),
            self.patience.silent_s,
            until,
        )


class Budget:
    """One operation's retries, shared by all its requests."""

    def __init__(self, contact: Contact, size: int = 0) -> None:
        self._contact = contact
        self._size = size
        self._spent = 0
        self._started_s = time.monotonic()
        self._brief = contact.is_given_up

    @property
    def limit_s(self) -> float:
        """How long the operation may take in all."""
        patience = self._contact.patience
        return patience.brief_s if self._brief else patience.limit_s(self._size)

    async def pause(self, error: Exception) -> None:
        """Wait before the next try; raises `error` when there is none."""
        contact, few = self._contact, self._brief or not self._contact.answered
        wait_s = contact.patience.wait_s(self._spent, size=self._size, few=few, dice=_DICE.random())
        left_s = self._started_s + self.limit_s - time.monotonic()
        if wait_s is None or wait_s > left_s:
            self.end()
            raise error
        self._spent += 1
        silent_s = contact.until_told_s(self._started_s)
        if silent_s < wait_s:
            await asyncio.sleep(silent_s)
            contact.tell(error, left_s - silent_s)
            wait_s -= silent_s
        await asyncio.sleep(wait_s)

    def end(self) -> None:
        """The operation has failed for want of an answer."""
        if not self._brief and self._contact.answered:  # What is brief does not prolong itself.
            self._contact.gave_up()


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
