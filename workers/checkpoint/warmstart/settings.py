"""Which weights a run begins with, and under which names they are taken: what a user may choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class InitFrom:
    r"""`source`: a file (.pt, .pth, .bin, .safetensors, .index.json), a run's URL or URL@STEP, or torchvision's name.

    `include` and `exclude` are names of the model: `fc` means all below it, `*` any characters, and what begins with ^
    is a regular expression. `rename` makes names of the model from names in the source, one pair after the other: a
    prefix, or ^ and a regular expression, with \1 for its first group. Not `strict`: what is missing in the source, or
    unexpected, is reported only; a wrong shape is refused all the same.
    """

    source: str
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    strict: bool = True
