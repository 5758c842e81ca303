"""Sees to it that a hang is noticed: looks at the beats of an attempt's workers, and when they stop, at themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from ..configs.heartbeat import Beat, Phase, read_beat
from . import hang_report
from .forking.dumping import STACKS
from .judging.hangs import Hang, compiles, hang_of, suspect
from .judging.patience import Patience, Wait
from .stacks import look_at, state_of, tracer_of

TICK_S: Final = 0.25
"""The beats are looked at so often, whatever else happens."""
_ASLEEP_S: Final = 1.0
"""A look that comes so much later than it should have: this process, or the whole machine, did not run."""
_LOOK_AGAIN_S: Final = 5.0
_OTHERS_FIRST_S: Final = 3.0
"""When all ranks of this host wait for another one's, that host is given the time to say so."""


class Workers(Protocol):
    """The part of a group that is needed here."""

    def pids(self) -> dict[int, int]: ...

    def signal(self, rank: int, number: int) -> None: ...


@dataclass(slots=True)
class Vigil:
    """`record` writes to the journal; `kept` is the folder for all stacks, if there is one, `journal` where
    that is kept, if it is; `several`: other hosts take part, and the rank that hangs may be theirs.
    """

    patience: Patience
    workers: Workers
    run_dir: Path
    record: Callable[..., None]
    say: Callable[[str], None]
    kept: Path | None = None
    journal: str = ""
    several: bool = False
    _looked_ns: int = field(init=False, default_factory=time.monotonic_ns)
    _not_before_ns: int = field(init=False, default=0)
    _waited_for_others: bool = field(init=False, default=False)
    _traced: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.patience.restart(self._looked_ns)

    def due_in_s(self, beats: Mapping[int, Beat]) -> float:
        """How soon a look is worth while."""
        now_ns = time.monotonic_ns()
        if now_ns < self._not_before_ns:
            return TICK_S
        return min(TICK_S, self.patience.due_in_s(self._judged(beats), beats, now_ns))

    def look(self, beats: Mapping[int, Beat]) -> Hang | None:
        """To be called at every tick. The hang, once it is sure that there is one."""
        now_ns = time.monotonic_ns()
        late_s = (now_ns - self._looked_ns) / 1e9 - TICK_S
        self._looked_ns = now_ns
        if late_s > _ASLEEP_S:
            self.patience.restart(now_ns)
        self.patience.learn(beats)
        overdue = self._overdue(beats, now_ns)
        if overdue is None:
            self._waited_for_others = False
        if overdue is None or now_ns < self._not_before_ns:
            return None
        hang = self._explain(overdue, beats)
        self._looked_ns = time.monotonic_ns()  # Looking closely takes its time.
        if hang is not None:
            self._tell(hang)
        return hang

    def _judged(self, beats: Mapping[int, Beat]) -> list[int]:
        """Ranks that run and have not finished."""
        return [rank for rank in self.workers.pids() if rank not in beats or beats[rank].phase is not Phase.FINISHED]

    def _overdue(self, beats: Mapping[int, Beat], now_ns: int) -> Wait | None:
        ranks = self._judged(beats)
        pids = self._pids(beats)
        stopped = [rank for rank in self.patience.silent(ranks, beats, now_ns) if state_of(pids[rank]) == "T"]
        return self.patience.overdue(ranks, beats, now_ns, stopped)

    def _pids(self, beats: Mapping[int, Beat]) -> dict[int, int]:
        """The processes that beat; the workers themselves where none has."""
        return {rank: beats[rank].pid if rank in beats else pid for rank, pid in self.workers.pids().items()}

    def _explain(self, overdue: Wait, beats: Mapping[int, Beat]) -> Hang | None:
        """None when it is no hang after all, or not yet."""
        ranks = self._judged(beats)
        pids = {rank: pid for rank, pid in self._pids(beats).items() if rank in ranks}
        if self._is_traced(pids):
            self.patience.restart(time.monotonic_ns())
            return None
        looks = look_at(pids, self.run_dir, lambda rank: self.workers.signal(rank, STACKS))
        if self._came_back(overdue.rank, beats):
            return None
        busy = any(compiles(look) for look in looks.values()) and not any(look.stopped for look in looks.values())
        if busy and overdue.waited_s < self.patience.settings.start_s:
            self._not_before_ns = time.monotonic_ns() + int(_LOOK_AGAIN_S * 1e9)
            return None
        judged = {rank: beats[rank] for rank in ranks if rank in beats}
        found = suspect(judged, looks)
        if found.elsewhere and self.several and not self._waited_for_others:
            self._waited_for_others = True
            self._not_before_ns = time.monotonic_ns() + int(_OTHERS_FIRST_S * 1e9)
            return None
        looked_s = (time.monotonic_ns() - self._looked_ns) / 1e9
        return hang_of(replace(overdue, waited_s=overdue.waited_s + looked_s), found, judged, looks)

    def _came_back(self, rank: int, beats: Mapping[int, Beat]) -> bool:
        """It has beaten while it was looked at."""
        newest = read_beat(self.run_dir, rank)
        return newest is not None and (rank not in beats or newest.at_ns > beats[rank].at_ns)

    def _is_traced(self, pids: Mapping[int, int]) -> bool:
        traced = [rank for rank, pid in pids.items() if tracer_of(pid)]
        if traced and not self._traced:
            self._traced = True
            self.say(f"rank {traced[0]} is silent and being debugged: hangs are not looked for meanwhile")
        return bool(traced)

    def _tell(self, hang: Hang) -> None:
        self.patience.hung(hang.step)
        self.record("hang", **hang_report.facts(hang))
        for each in hang_report.stacks(hang):
            self.record("stacks", **each)
        self.say(hang_report.block(hang, str(self._keep(hang) or self.journal)))

    def _keep(self, hang: Hang) -> Path | None:
        """Where all the stacks are now, in full; None for the journal alone."""
        if self.kept is None:
            return None
        try:
            self.kept.mkdir(parents=True, exist_ok=True)
            for rank, look in hang.stacks.items():
                (self.kept / f"stacks-{rank:05d}.txt").write_text(f"{look.text}\n")
        except OSError as error:
            self.say(f"the stacks are not written to {self.kept}: {error}")
            return None
        return self.kept
