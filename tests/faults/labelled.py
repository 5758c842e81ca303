"""What a labelled fault is: something that two ranks run, and what the launcher should make of it."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent
from typing import Final

from relight.configs.protocol import ExitCode

START: Final = """
import ctypes, os, resource, signal, subprocess, sys, threading, time
rank = int(os.environ["RANK"])
def other():
    return rank == 0
"""
TORCH: Final = """
import torch
import torch.distributed as dist
from datetime import timedelta
from torch.utils.data import DataLoader, Dataset
"""
GLOO: Final = (
    TORCH
    + """
dist.init_process_group("gloo")
def step():
    dist.all_reduce(torch.ones(1))
for _ in range(3):
    step()
"""
)


@dataclass(frozen=True)
class Case:
    """`kind` is the class of the first cause, None where nothing has failed; `first` the rank that had it, None where
    it may be either. `said` is a part of what the user reads at the end. `flags` come before the script.

    `target` is run instead of the script, if there is one; `overrides` make it a run of a config and a task.
    """

    name: str
    script: str
    kind: str | None
    first: int | None = 1
    code: ExitCode = ExitCode.GAVE_UP
    said: str = ""
    flags: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return START + dedent(self.script)


def case(name: str, kind: str | None, script: str = "", **label: object) -> Case:
    return Case(name, script, kind, **label)  # type: ignore[arg-type]  # Checked when it is made.


def with_torch(script: str) -> str:
    return TORCH + dedent(script)


def with_gloo(script: str) -> str:
    return GLOO + dedent(script)


def on_rank_1(statement: str) -> str:
    """The other one waits to be killed."""
    return f"if rank == 0:\n    signal.pause()\n{dedent(statement)}"
