"""What became of the saves: known to rank 0 first, and through the votes to every rank one step later."""

from __future__ import annotations

from collections.abc import Callable

from ...storage.persister import Outcome
from ..agreement import Votes
from ..errors import Fenced, SavesKeepFailing
from ..notices import say


class Ledger:
    """`committed_step` and `failed_step` are what this rank may vote; -1: none yet. `heard` is told of each outcome."""

    def __init__(self, rank: int, max_failed_saves: int, heard: Callable[[Outcome], None] = lambda _: None) -> None:
        self._rank = rank
        self._max_failed_saves = max_failed_saves
        self._heard = heard
        self._failures_in_a_row = 0
        self.committed_step = -1
        self.failed_step = -1
        self.last_failure = ""

    def enter(self, outcome: Outcome | None) -> None:
        """Take what the persister says. Raises Fenced when the storage belongs to a newer launcher."""
        if outcome is None:
            return
        self._heard(outcome)
        if outcome.superseded:
            raise Fenced(outcome.failed)
        if outcome.failed:
            self.last_failure = outcome.failed
            self._failed(outcome.step)
            if self._rank == 0:  # It has every rank's reason, from their receipts.
                say(f"the save of step {outcome.step} failed: {outcome.failed}. Training goes on")
        elif outcome.committed:
            self._committed(outcome.step)

    def begin(self, step: int) -> None:
        """A save of `step` begins, on all ranks: of one step that is saved once more only what fails now counts."""
        self.failed_step = min(self.failed_step, step - 1)

    def hear(self, agreed: Votes) -> None:
        """Take what all ranks agreed on. Raises SavesKeepFailing, on all of them, when it has happened too often."""
        self._committed(agreed.committed_step)
        self._failed(agreed.failed_step)
        if self._failures_in_a_row >= self._max_failed_saves:
            message = f"{self._failures_in_a_row} saves in a row have failed, the last one at step {self.failed_step}"
            raise SavesKeepFailing(f"{message}: {self.last_failure}" if self.last_failure else message)

    def resumed(self, step: int) -> None:
        self.committed_step = step

    def _committed(self, step: int) -> None:
        if step > self.committed_step:
            self.committed_step = step
            self._failures_in_a_row = 0

    def _failed(self, step: int) -> None:
        if step > self.failed_step:
            self.failed_step = step
            self._failures_in_a_row += 1
