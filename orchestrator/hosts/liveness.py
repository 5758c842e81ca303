"""Which hosts are silent, from counters that each host moves on about once a second. Pure: the clock is the caller's.

Only changes of a counter are looked at, and only the observer's own clock: hosts need not agree about the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

BEAT_EVERY_S: Final = 1.0
SILENT_S: Final = 6.0
"""A host that has been silent for so long is lost. Several times what a busy machine delays a beat by."""
_LONGEST_BLINK_S: Final = 2.0
GONE: Final = "gone"
"""The counter of a host that has left the round on purpose, and so need not beat any more."""


class Liveness:
    """The other hosts of a round, as one of them hears them."""

    def __init__(self, hosts: Iterable[int], now_s: float) -> None:
        self._counts: dict[int, str] = {}
        self._heard_s = dict.fromkeys(hosts, now_s)
        self._looked_s = now_s

    @property
    def hosts(self) -> list[int]:
        return list(self._heard_s)

    def hear(self, counts: Mapping[int, str], now_s: float) -> None:
        """What the counters of all hosts are now."""
        blink_s = now_s - self._looked_s
        if blink_s > _LONGEST_BLINK_S:  # It was us: suspended, or kept from looking. Nobody was silent meanwhile.
            self._heard_s = {host: heard_s + blink_s for host, heard_s in self._heard_s.items()}
        self._looked_s = now_s
        for host, count in counts.items():
            if self._counts.get(host) != count or count == GONE:
                self._heard_s[host] = now_s
        self._counts = dict(counts)

    def silent(self, now_s: float) -> dict[int, float]:
        """The hosts that are lost, and for how many seconds nothing was heard of each."""
        return {host: now_s - heard_s for host, heard_s in self._heard_s.items() if now_s - heard_s > SILENT_S}

    def all_heard_since(self, moment_s: float) -> bool:
        return all(heard_s >= moment_s for heard_s in self._heard_s.values())
