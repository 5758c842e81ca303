"""Names: DCP's paths in a state dict as names of tensors and back, and the steps that people spell. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ...storage.digest import IMPORTED
from ...storage.whole import RANK_PREFIX

Path = tuple[str | int, ...]
"""A place in a nested state dict: keys of dicts (str) and positions in lists (int)."""

MODEL: Final = "model"
OPTIMIZER: Final = "optimizer"
PROGRESS: Final = "progress"
NOTES: Final = "dcp"
"""The part of the global JSON in which is written what a reader must know to give DCP back what DCP gave."""
LOOSE: Final = f"{NOTES}:"
"""What stands before the name of a value that is kept by itself, outside the tree."""

_RESERVED: Final = {PROGRESS, NOTES, IMPORTED}
_DIGITS_AT_THE_END: Final = re.compile(r"([0-9]+)/*$")
_MAX_STEP: Final = 10**12 - 1


def fqn(path: Path) -> str:
    """DCP's name of what is there."""
    return ".".join(map(str, path))


def stored(path: Path, *, bare: bool) -> Path:
    """Where a tensor is kept: those at the top of a state dict without a `model` are the model's."""
    return (MODEL, *path) if bare and len(path) == 1 else path


def given(path: Path, *, bare: bool) -> Path:
    """The inverse of `stored`."""
    return path[1:] if bare and path[0] == MODEL else path


def tensor_name(path: Path) -> str:
    """What a tensor is stored as: `model/layer.weight`. Two different paths of one checkpoint never share one."""
    first, *rest = map(str, path)
    return "/".join(part.replace("/", "%2F") for part in (top_key(first), *map(_escaped, rest)))


def top_key(key: str) -> str:
    """A key at the top as it is stored: those that mean something there are spelled another way."""
    if key in _RESERVED or key.startswith((RANK_PREFIX, LOOSE)):
        return f"%{ord(key[0]):02X}{_escaped(key[1:])}"
    return _escaped(key)


def top_key_given(key: str) -> str:
    """The inverse of `top_key`."""
    if re.match(r"%(?!25)[0-9A-F]{2}", key):
        key = chr(int(key[1:3], 16)) + key[3:]
    return key.replace("%25", "%")


def _escaped(part: str) -> str:
    return part.replace("%", "%25")


def is_bare(paths: Iterable[Path]) -> bool:
    """Whether the tensors at the top are taken for the model's."""
    return all(path[0] != MODEL for path in paths)


def step_of(checkpoint_id: object) -> int:
    """The step that a `checkpoint_id` ends with. Raises ValueError with the way out."""
    found = _DIGITS_AT_THE_END.search(str(checkpoint_id))
    if found is None or int(found[1]) > _MAX_STEP:
        message = (
            f"checkpoint_id {str(checkpoint_id)!r} names no step: let it end with the step's number, as step-100 does "
            "(the folder is the URL's), or leave it out for the step after the newest"
        )
        raise ValueError(message)
    return int(found[1])


def names_a_step(checkpoint_id: object) -> bool:
    try:
        step_of(checkpoint_id)
    except ValueError:
        return False
    return True
