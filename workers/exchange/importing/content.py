"""What was found in a file: a tree of state dicts, numbers and tensors, whatever the file's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Content:
    """`tree` is a state dict, or holds one beside other things. Its tensors lie in a file until they are read.

    `title` says where it comes from, `kind` what it is ("safetensors", "a whole model"), as people are told.
    """

    tree: Mapping[str, Any]
    title: str
    kind: str
