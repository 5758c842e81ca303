"""Going on from a checkpoint that was imported from a file: what the file did not hold begins anew, and it is said.

The mark in its global state says that it was. A checkpoint without one has to hold all that is here. The first save
after it is an ordinary checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from torch.optim import Optimizer

from ...storage.digest import IMPORTED
from .state import Parts

MARK: Final = IMPORTED
"""Under this key of the global state: {"file", "format", "held": [parts], "left_out": [keys]}."""

_SAID: Final[Mapping[str, str]] = {
    "data": "the position in the data",
    "loader": "the position in the data",
    "position": "the position in the data",
}


def held_parts(parts: Parts, state: Mapping[str, Any]) -> tuple[Parts, list[str]]:
    """What is to be compared with the checkpoint and filled from it, and the names of what begins anew.

    `state` is the checkpoint's global JSON. Of an unmarked one all parts are.
    """
    if MARK not in state:
        return parts, []
    optimizers = {key: it for key, it in parts.optimizers.items() if key in state}
    held = replace(
        parts,
        optimizer=_as_given(parts.optimizer, optimizers),
        shared={name: part for name, part in parts.shared.items() if name in state},
        per_rank={},  # A file holds nothing of any rank's own.
    )
    live = [*parts.optimizers, *parts.shared, *parts.per_rank]
    return held, [name for name in live if name not in held.optimizers and name not in held.shared]


def what_begins_anew(state: Mapping[str, Any], names: list[str], epoch: int) -> str:
    """For the user, in one line."""
    said = [*dict.fromkeys(_SAID.get(name, name) for name in names), "the random generators"]
    if _SAID["data"] in said:
        said[said.index(_SAID["data"])] += f" (at the beginning of epoch {epoch})"
    listed = f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0]
    return f"this checkpoint was imported from {state[MARK]['file']}, which does not hold all: {listed} begin anew"


def way_out(state: Mapping[str, Any]) -> str:
    """What to do about one that does not fit."""
    if MARK not in state:
        return "Put model, optimizer and data back as they were, or choose another storage.url to start a new run"
    return (
        f"It was imported from {state[MARK]['file']}. Make model and optimizer as those that it was saved from; or "
        "import it again, to another URL, with --without NAME for what is to begin anew"
    )


def _as_given(given: Any, held: Mapping[str, Optimizer]) -> Any:
    """One optimizer, or several by their names: those that are held."""
    if isinstance(given, Optimizer):
        return next(iter(held.values()), None)
    return {key.partition("/")[2]: optimizer for key, optimizer in held.items()}
