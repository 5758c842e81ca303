"""What a checkpoint can be exported as. Free of torch: the command line names them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    TORCH = "torch"
    """The whole model, by pickle: `torch.load(..., weights_only=False)` gives it back."""
    STATE_DICT = "state-dict"
    """The weights alone, for `model.load_state_dict`."""
    CHECKPOINT = "checkpoint"
    """One dict of epoch, model, optimizer and loss, from which a loop of one's own resumes."""
    SAFETENSORS = "safetensors"
    """The weights alone, in one file or several with an index."""
    DCP = "dcp"
    """A folder for `torch.distributed.checkpoint.load`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked for beside the format. `model` is MODULE:CALLABLE, `only` one of several models by its name.

    `shard_bytes`: safetensors in files of at most so many bytes of tensors, beside an index.
    """

    model: str | None = None
    only: str | None = None
    shard_bytes: int | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """Who is told what: of the bytes that are to be read, of each stretch that was, and of what a user should know."""

    on_total: Callable[[int], object] = lambda _: None
    on_bytes: Callable[[int], object] = lambda _: None
    on_notice: Callable[[str], object] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written. `bytes` are those on disk, `tensors` how many tensors are in it."""

    out: str
    format: Format
    step: int
    checkpoint: str
    bytes: int
    tensors: int

    def facts(self) -> dict[str, Any]:
        return {
            "out": self.out,
            "format": self.format.value,
            "step": self.step,
            "checkpoint": self.checkpoint,
            "bytes": self.bytes,
            "tensors": self.tensors,
        }
