"""How long a rank may be silent: learned from the run's own steps, or declared by the ranks. Pure: no clock, no I/O.

    what a step may take = max(floor, 3 x the 99th percentile, 1.5 x the longest) of the silences seen lately

What has ended well once is allowed again; and each hang makes the next one wait four times as long, until the step
at which it hung is passed. So a step that is merely slow is taken for a hang a few times at most.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from ...configs.heartbeat import Beat, Phase
from ...configs.schema import HangConfig

_TIMES_P99: Final = 3.0
_TIMES_LONGEST: Final = 1.5
_GROWTH: Final = 4.0
_LOOK_S: Final = 0.1
_REMEMBERED: Final = 1000
_ENOUGH: Final = 3
"""With fewer silences than that a step may take three times what the start has taken, its first step included."""
_NS: Final = 1e9
_STEPPING: Final = frozenset({Phase.TRAINING, Phase.SAVING})
"""Phases that are judged by what a step takes; the others only by what they have declared."""


@dataclass(frozen=True, slots=True)
class Wait:
    """For how long a rank has been silent and may be. `declared`: by its own word, not by what steps take."""

    rank: int
    waited_s: float
    limit_s: float
    declared: bool

    @property
    def left_s(self) -> float:
        """Until it has to be looked at closely, so that the limit is kept with the time that this takes."""
        return self.limit_s - min(_LOOK_S, self.limit_s / 10) - self.waited_s


@dataclass(slots=True)
class Patience:
    """Of one launcher with its workers, over all their attempts. Times are those of the host's monotonic clock."""

    settings: HangConfig
    _silences: deque[float] = field(init=False, default_factory=lambda: deque(maxlen=_REMEMBERED))
    _seen: Mapping[int, Beat] = field(init=False, default_factory=dict)
    _since_ns: int = field(init=False, default=0)
    _start_s: float = field(init=False, default=math.inf)
    _growth: float = field(init=False, default=1.0)
    _hung_at: int = field(init=False, default=-1)
    _world_size: int = field(init=False, default=0)

    def begin(self, world_size: int) -> None:
        """Workers begin. In another world steps take another time: on fewer ranks each does more of a batch."""
        if world_size != self._world_size:
            self._world_size = world_size
            self._silences.clear()
            self._start_s = math.inf

    def restart(self, now_ns: int) -> None:
        """Nothing before this moment counts: other workers began, or we have slept and cannot tell who else did."""
        self._seen = {}
        self._since_ns = now_ns

    def learn(self, beats: Mapping[int, Beat]) -> None:
        """See the newest beats of all ranks, often enough to see most."""
        pairs = [(self._seen[rank], beat) for rank, beat in beats.items() if rank in self._seen]
        plain = [pair for pair in pairs if not pair[0].allowance_s and pair[0].phase in _STEPPING]
        longest = max((_silence_s(*pair) for pair in plain), default=0.0)
        if longest > 0:
            self._silences.append(longest)
        announced = max((_silence_s(*pair) for pair in pairs if pair[0].allowance_s), default=0.0)
        if announced > 0:
            self._start_s = announced
        self._seen = dict(beats)
        if self._growth > 1 and all(beat.step > self._hung_at for beat in beats.values()):
            self._growth = 1.0

    def hung(self, step: int) -> None:
        """There was a hang after `step`."""
        self._growth *= _GROWTH
        self._hung_at = step

    @property
    def p99_s(self) -> float | None:
        """Of the silences between two steps; None before enough of them are known."""
        if len(self._silences) < _ENOUGH:
            return None
        return sorted(self._silences)[math.ceil(len(self._silences) * 0.99) - 1]

    def overdue(
        self, ranks: Collection[int], beats: Mapping[int, Beat], now_ns: int, stopped: Collection[int] = ()
    ) -> Wait | None:
        """The rank that has been silent for too long, if there is one. `stopped` are processes that cannot run.

        While one rank does what it has declared, the others may have to wait for it.
        """
        waits = self._waits(ranks, beats, now_ns)
        # A process that was stopped does nothing of what it has declared.
        halted = [wait for wait in self._short(waits) if wait.rank in stopped and wait.left_s <= 0]
        if halted:
            return min(halted, key=lambda wait: wait.left_s)
        if any(wait.declared and wait.left_s > 0 for wait in waits):
            return None
        return min((wait for wait in waits if wait.left_s <= 0), key=lambda wait: wait.left_s, default=None)

    def silent(self, ranks: Collection[int], beats: Mapping[int, Beat], now_ns: int) -> list[int]:
        """Ranks that have been silent for longer than a step takes, whatever they have declared."""
        return [wait.rank for wait in self._short(self._waits(ranks, beats, now_ns)) if wait.left_s <= 0]

    def due_in_s(self, ranks: Collection[int], beats: Mapping[int, Beat], now_ns: int) -> float:
        """When the next one may be overdue if nobody beats until then."""
        waits = self._waits(ranks, beats, now_ns)
        return min((wait.left_s for wait in [*waits, *self._short(waits)] if wait.left_s > 0), default=math.inf)

    def _waits(self, ranks: Collection[int], beats: Mapping[int, Beat], now_ns: int) -> list[Wait]:
        if self.settings.timeout == "never" or not beats:  # Programs that never beat are never judged.
            return []
        waits = (self._wait(rank, beats.get(rank), now_ns) for rank in ranks)
        return [wait for wait in waits if wait is not None]

    def _wait(self, rank: int, beat: Beat | None, now_ns: int) -> Wait | None:
        """None for a rank that is not judged."""
        if beat is None:
            return Wait(rank, (now_ns - self._since_ns) / _NS, self.settings.start_s * self._growth, declared=True)
        waited_s = (now_ns - max(beat.at_ns, self._since_ns)) / _NS
        if beat.allowance_s > 0:
            limit_s = max(beat.allowance_s * self._growth, self._step_limit_s or 0.0)
            return Wait(rank, waited_s, limit_s, declared=True)
        if beat.phase not in _STEPPING:
            return None
        return Wait(rank, waited_s, self._step_limit_s or self._unknown_limit_s, declared=False)

    def _short(self, waits: list[Wait]) -> list[Wait]:
        """The same, by what a step takes alone."""
        limit_s = self._step_limit_s or self.settings.floor_s * self._growth
        return [Wait(wait.rank, wait.waited_s, limit_s, declared=False) for wait in waits]

    @property
    def _unknown_limit_s(self) -> float:
        """Of a step while nothing is known of the steps but their start."""
        floor_s, start_s = self.settings.floor_s, self.settings.start_s
        return min(start_s, max(floor_s, _TIMES_P99 * self._start_s)) * self._growth

    @property
    def _step_limit_s(self) -> float | None:
        """None: nothing is known of this run's steps."""
        timeout, p99_s = self.settings.timeout, self.p99_s
        if isinstance(timeout, float):
            return timeout
        if p99_s is None:
            return None
        longest = max(self._silences)
        return max(self.settings.floor_s, _TIMES_P99 * p99_s, _TIMES_LONGEST * longest) * self._growth


def _silence_s(before: Beat, beat: Beat) -> float:
    """What the steps between two looks took: never less than the longest of them. 0.0: there were none."""
    if before.pid != beat.pid or beat.phase not in _STEPPING:
        return 0.0
    return (beat.at_ns - before.at_ns) / _NS
