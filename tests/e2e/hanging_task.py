"""The small task, in which ranks hang, and in which much takes long that is no hang: both as the test's notes say.

Each planted thing happens once in a run, however often its step is done.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from relight.configs.protocol import ENV_RUN_DIR
from relight.tests.e2e.paced_task import HEARTBEATS
from relight.tests.e2e.tiny_task import Tiny

STEPS_OF_AN_EPOCH: Final = 16
RECOMPILED: Final = 24
COMPILER: Final = "/site-packages/torch/_dynamo/convert_frame.py"
"""A function from there is on the stack of what `torch.compile` has to compile."""


class Hanging(Tiny):
    def __init__(
        self,
        train: Any,
        *,
        notes: str,
        hang: list[list[Any]] | None = None,
        slow: dict[str, float] | None = None,
        pace_s: float = 0.02,
    ) -> None:
        """`hang`: `[rank, step, how]` each. `slow`: seconds for `start` (the first step), `epoch` (the first one of the
        second epoch), `recompile` (a step in between) and `evaluate`. `pace_s`: what a step takes at least.
        """
        super().__init__(train, notes=notes)
        self._hang = {(rank, step): how for rank, step, how in hang or []}
        self._slow = slow or {}
        self._pace_s = pace_s
        extra = dist.new_group(backend="gloo")
        assert isinstance(extra, dist.ProcessGroup)
        self._extra = extra
        if self.rank == 0:
            (self.notes / HEARTBEATS).write_text(os.environ[ENV_RUN_DIR])

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        assert self.schedule is not None
        step = self.schedule.last_epoch + 1
        _pass(self._pace_s)
        planted = {1: ("start", _pass), STEPS_OF_AN_EPOCH + 1: ("epoch", _pass), RECOMPILED: ("recompile", _compile)}
        if step in planted and self._first_time(f"slow-{self.rank}-{step}"):
            name, take = planted[step]
            take(self._slow.get(name, 0.0))
        how = self._hang.get((self.rank, step))
        if how is not None and self._first_time(f"hung-{self.rank}-{step}"):
            getattr(self, how)()
        return super().loss(model, batch)

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        if self._first_time(f"slow-{self.rank}-evaluate"):
            _pass(self._slow.get("evaluate", 0.0))
        return super().metrics(model, batch)

    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def loop(self) -> None:
        number = 0
        while True:
            number += 1

    def extra_collective(self) -> None:
        dist.all_reduce(torch.ones(1), group=self._extra)

    def asleep(self) -> None:
        threading.Event().wait()

    def _first_time(self, name: str) -> bool:
        note: Path = self.notes / name
        if note.exists():
            return False
        note.touch()
        return True


def _pass(seconds: float) -> None:
    threading.Event().wait(seconds)


def _compile(seconds: float) -> None:
    """What stands on the stack while a model is compiled anew, in mid-run and undeclared."""
    scope: dict[str, Callable[[float], None]] = {"wait": _pass}
    exec(compile("def _compile(seconds): wait(seconds)", COMPILER, "exec"), scope)
    scope["_compile"](seconds)
