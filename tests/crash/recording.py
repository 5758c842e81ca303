"""A disk that acts and writes down what it did, in steps that a power cut could separate.

`from relight.tests.crash.recording import Recorder, RecordingDisk`
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from relight.storage.backends.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relight.storage.backends.base import Bytes

Kind = Literal[
    "make_dir", "create", "write", "sync_file", "link", "replace", "unlink", "remove_dir", "sync_dir", "mark"
]


@dataclass(frozen=True, slots=True)
class Op:
    """One step. `data` is what was written; `mark` is a promise that was given at this point: nothing on disk."""

    kind: Kind
    path: Path | None = None
    target: Path | None = None
    data: bytes = b""
    mark: object = None

    def __str__(self) -> str:
        names = " -> ".join(path.name for path in (self.path, self.target) if path is not None)
        return f"{self.kind} {names or self.mark}"


@dataclass(slots=True)
class Recorder:
    """What happened below `base`, by all actors, in order. What is above `base` is as durable as the machine."""

    base: Path
    ops: list[Op] = field(default_factory=list)

    def mark(self, promise: object) -> None:
        self.ops.append(Op("mark", mark=promise))

    def log(self, kind: Kind, path: Path, target: Path | None = None, data: bytes = b"") -> None:
        if path.is_relative_to(self.base):
            self.ops.append(Op(kind, path, target, data))


class RecordingDisk(Disk):
    """`gate` is passed before every step: there a conductor may let another actor go first, or end this one."""

    def __init__(self, recorder: Recorder, gate: Callable[[], None] = lambda: None) -> None:
        self._recorder = recorder
        self.gate = gate

    def make_dir(self, path: Path) -> bool:
        if path.is_dir():
            return False
        self.gate()
        if made := super().make_dir(path):
            self._recorder.log("make_dir", path)
        return made

    def write_new(self, path: Path, data: Bytes) -> None:
        self.gate()
        super().write_new(path, data)
        self._recorder.log("create", path)
        self._recorder.log("write", path, data=bytes(data))
        self._recorder.log("sync_file", path)

    def link(self, source: Path, target: Path) -> None:
        self.gate()
        super().link(source, target)
        self._recorder.log("link", source, target)

    def replace(self, source: Path, target: Path) -> None:
        self.gate()
        super().replace(source, target)
        self._recorder.log("replace", source, target)

    def unlink(self, path: Path) -> None:
        self.gate()
        there = path.exists()
        super().unlink(path)
        if there:
            self._recorder.log("unlink", path)

    def remove_dir(self, path: Path) -> None:
        self.gate()
        super().remove_dir(path)
        self._recorder.log("remove_dir", path)

    def sync_dir(self, path: Path) -> None:
        if path.is_relative_to(self._recorder.base):
            self.gate()
            self._recorder.log("sync_dir", path)
