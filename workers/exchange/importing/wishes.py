"""What the user says beside the file and the URL, and what they are told of what was done. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """`model` is MODULE:CALLABLE. `renames`: keys of the file and what to take them for; `without`: keys and parts to
    leave out. `trusted`: code in the file may be run.
    """

    step: int | None = None
    epoch: int | None = None
    model: str | None = None
    trusted: bool = False
    renames: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    strip_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was brought: `parts` says of each what it is, `notes` what was done with names, `left_out` the keys that
    are no part of a run.
    """

    file: str
    format: str
    url: str
    checkpoint: str
    step: int
    epoch: int
    samples: int
    loss: float | None
    bytes: int
    parts: Mapping[str, str]
    notes: tuple[str, ...]
    left_out: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "format": self.format,
            "url": self.url,
            "checkpoint": self.checkpoint,
            "step": self.step,
            "epoch": self.epoch,
            "samples": self.samples,
            "loss": self.loss,
            "bytes": self.bytes,
            "parts": dict(self.parts),
            "notes": list(self.notes),
            "left_out": list(self.left_out),
        }
