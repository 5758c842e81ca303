"""How often something is told, so that what is told in all stays small however long the run is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_FIRST_S: Final = 0.2
_PART: Final = 1000
"""Of the age of what is told: in a month that makes 10,000 times, where once a second would be 2.6 million."""


class Pace:
    """Five times a second at first, and later once in a thousandth of the age: the count grows with its logarithm.

    `age_s`: how old the launcher's life is already.
    """

    def __init__(self, age_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._born = clock() - age_s
        self._next = float("-inf")

    def due(self) -> bool:
        """Whether it is time; if so, the next time is reckoned from now."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + max(_FIRST_S, (now - self._born) / _PART)
        return True
