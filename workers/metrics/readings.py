"""Values of losses, read without waiting for a device: a copy is asked for, and looked at once it is surely there."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import torch

_SLOTS: Final = 256
"""So many copies may be under way. A device is told to do a thousand things ahead at most, and a step is many."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The loss of one step. `at` is the wall clock's time when the step was done, `purpose` the caller's own."""

    step: int
    at: float
    purpose: int
    value: float


@dataclass(frozen=True, slots=True)
class _Copy:
    step: int
    at: float
    purpose: int
    host: torch.Tensor
    done: torch.cuda.Event


class Readings:
    """In the order in which they were put. On the CPU a value is there at once."""

    def __init__(self) -> None:
        self._copies: deque[_Copy] = deque()
        self._arrived: deque[Reading] = deque()
        self._slots: torch.Tensor | None = None
        self._number = 0

    def put(self, step: int, loss: torch.Tensor | float, purpose: int) -> None:
        """What is no single number, or lies in parts on several ranks, is not read: that would take all of them."""
        at = time.time()
        if not isinstance(loss, torch.Tensor):
            self._arrived.append(Reading(step, at, purpose, float(loss)))
            return
        whole = _whole(loss)
        if whole is None or whole.numel() != 1:
            return
        if whole.device.type == "cuda":
            self._copy(step, at, purpose, whole)
        else:
            self._arrived.append(Reading(step, at, purpose, float(whole)))

    def take(self, *, wait: bool = False) -> list[Reading]:
        """What has arrived; with `wait` everything that was put."""
        while self._copies and (wait or self._copies[0].done.query()):
            self._receive()
        found = list(self._arrived)
        self._arrived.clear()
        return found

    def _copy(self, step: int, at: float, purpose: int, loss: torch.Tensor) -> None:
        if self._slots is None:
            self._slots = torch.empty(_SLOTS, dtype=torch.float32, pin_memory=True)
        if len(self._copies) == _SLOTS:
            self._receive()
        host = self._slots[self._number % _SLOTS]
        self._number += 1
        host.copy_(loss.detach().reshape(()).to(torch.float32), non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        self._copies.append(_Copy(step, at, purpose, host, done))

    def _receive(self) -> None:
        copy = self._copies.popleft()
        copy.done.synchronize()
        self._arrived.append(Reading(copy.step, copy.at, copy.purpose, float(copy.host)))


def _whole(loss: torch.Tensor) -> torch.Tensor | None:
    """A DTensor that every rank has whole is as good as its local part; to put another together is a collective."""
    placements: Any = getattr(loss, "placements", None)
    if placements is None:
        return loss
    local: torch.Tensor | None = None
    if all(placement.is_replicate() for placement in placements):
        local = loss.to_local()  # type: ignore[attr-defined]  # It is a DTensor.
    return local
