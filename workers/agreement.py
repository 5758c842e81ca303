"""What all ranks decide together, without waiting: votes cast at one step are read, by all, at the next.

A tiny all-reduce is started after a step and looked at after the one that follows, when it has long arrived. Every
rank reads the same answer at the same step, so a save or a stop begins everywhere at the same step boundary.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class Votes:
    """What one rank asks for and knows; combined, the maximum of each field over the ranks."""

    stop: bool = False
    """Told to stop: save and leave."""
    save_due: bool = False
    """It is time for a checkpoint."""
    snapshot_due: bool = False
    """It is time to keep the state in memory."""
    busy: bool = False
    """An earlier save is still under way."""
    full: bool = False
    """There is no memory to stage another save in."""
    committed_step: int = -1
    """The newest committed checkpoint; -1: none."""
    failed_step: int = -1
    """The newest save that failed; -1: none."""


class Agreement:
    """One round of votes at a time: `start`, one step of training, `read`. Main thread only."""

    # A background thread may outlive the process group, and its collectives would cross the main thread's.

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        """`group` takes CPU tensors (`World.control`); None: this rank is alone."""
        self._group = group
        self._ballot: torch.Tensor | None = None
        self._work: dist.Work | None = None

    def start(self, votes: Votes) -> None:
        """Cast this rank's votes. All ranks do, at the same step; one round at a time."""
        if self._ballot is not None:
            raise RuntimeError("the votes of the last round have not been read: call read() before start()")
        self._ballot = torch.tensor(astuple(votes), dtype=torch.int64)
        if self._group is not None:
            self._work = dist.all_reduce(self._ballot, dist.ReduceOp.MAX, group=self._group, async_op=True)

    def read(self) -> Votes | None:
        """The outcome of the round that was started, or None when there is none. Raises as the collective does."""
        if self._ballot is None:
            return None
        ballot, work = self._ballot, self._work
        self._ballot = self._work = None
        if work is not None:
            work.wait()
        stop, save_due, snapshot_due, busy, full, committed_step, failed_step = ballot.tolist()
        return Votes(
            bool(stop), bool(save_due), bool(snapshot_due), bool(busy), bool(full), committed_step, failed_step
        )

    def agree(self, votes: Votes) -> Votes:
        """Vote and wait for everybody: for the end of a run, where there is no next step."""
        self.start(votes)
        outcome = self.read()
        assert outcome is not None
        return outcome
