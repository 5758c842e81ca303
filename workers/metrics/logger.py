"""The protocol of a logger: three methods, called on rank 0's main thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Which run this is. `id` is the same in all its lives, and nobody else's.

    `first_step`: so many steps earlier lives have done. What is logged comes after it; what an earlier life has logged
    beyond it is being done again. `config` is the resolved configuration, empty for a script.
    """

    id: str
    name: str
    url: str
    first_step: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)


class Outcome(StrEnum):
    """How a life ended, where somebody could still say so: after a SIGKILL nobody does."""

    FINISHED = "finished"
    PREEMPTED = "preempted"
    """The run goes on in another life."""
    FAILED = "failed"


@runtime_checkable
class Logger(Protocol):
    """Where scalars go: "loss", "metrics/NAME" and "goodput".

    One that raises is told of once and not called again; the training goes on. What takes long is best done in a
    thread of the logger's own: the training waits for these calls.
    """

    def begin(self, run: RunFacts) -> None:
        """A life begins, or goes on. Called once, before the first `log`."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Steps never fall within a life; one may come in several calls. A scalar may be infinite, or no number."""

    def end(self, outcome: Outcome) -> None:
        """The last call."""
