"""The heartbeat file: 64 bytes per rank in shared memory, written by the rank, read by its launcher.

One writer, any number of readers, no locks: a reader that meets a half-written beat sees at worst a step that is
one beat old together with a newer time, which no decision depends on.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

_LAYOUT = struct.Struct("<4sIqqqqqdq")
_MAGIC = b"RLHB"


class Phase(IntEnum):
    """What a rank is doing; a hang is judged against what its phase may take."""

    STARTING = 0
    RESTORING = 1
    TRAINING = 2
    EVALUATING = 3
    SAVING = 4
    FINISHED = 5


@dataclass(frozen=True, slots=True)
class Beat:
    """The last sign of life of one rank.

    `step` is the last finished step, `committed_step` the newest committed checkpoint this rank knows of (-1: none),
    `resumed_step` the one that this life went on from, be it from storage or from memory (-1: from nothing),
    `pid` the process, `at_ns` the host's monotonic clock in nanoseconds (comparable on this host only).
    `allowance_s`: the next beat may take so long by the rank's own word (0.0: as long as a step takes).
    `stalled_ns`: for how long in this life the training has stood still for staging and saves.
    """

    phase: Phase
    step: int
    committed_step: int
    resumed_step: int
    pid: int
    at_ns: int
    allowance_s: float = 0.0
    stalled_ns: int = 0


def heartbeat_path(run_dir: Path, rank: int) -> Path:
    return run_dir / f"heartbeat-{rank:05d}"


class Heartbeat:
    """A rank's own heartbeat. Beating is a memory store: no system call, no lock, nothing that can block."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        path = heartbeat_path(run_dir, rank)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, _LAYOUT.size)
            self._memory = mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)
        self._pid = os.getpid()
        self.beat(Phase.STARTING, step=-1, committed_step=-1)

    def beat(
        self,
        phase: Phase,
        *,
        step: int,
        committed_step: int,
        resumed_step: int = -1,
        allowance_s: float = 0.0,
        stalled_ns: int = 0,
    ) -> None:
        # Packed first and copied at once: `pack_into` would clear the buffer before it fills it piece by piece.
        now_ns = time.monotonic_ns()
        self._memory[:] = _LAYOUT.pack(
            _MAGIC, phase, step, committed_step, resumed_step, self._pid, now_ns, allowance_s, stalled_ns
        )

    def close(self) -> None:
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_beat(run_dir: Path, rank: int) -> Beat | None:
    """The rank's last beat, or None when it has not beaten yet."""
    try:
        raw = heartbeat_path(run_dir, rank).read_bytes()
    except FileNotFoundError:
        return None
    if len(raw) != _LAYOUT.size:
        return None
    magic, phase, *numbers = _LAYOUT.unpack(raw)
    return Beat(Phase(phase), *numbers) if magic == _MAGIC else None
