"""The position of a loader that keeps its own: each rank's state, and what becomes of it in another world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from ..errors import StateMismatch


@runtime_checkable
class Reshardable(Protocol):
    """What a loader of iterable data offers so that its position outlives a change of the world."""

    def reshard(self, states: list[dict[str, Any]], rank: int, world_size: int) -> dict[str, Any]:
        """The state that `rank` of `world_size` goes on from, out of the `state_dict()` of each old rank, by rank.

        It answers from its arguments alone and changes nothing. The new ranks' states together have to stand for what
        the old ones had left, no more and no less. Where the ranks of a tensor-parallel group read the same samples,
        it gets and gives the same state for each of them.
        """


def unfit(name: str, part: object, saved_by: int, world_size: int) -> str | None:
    """Why the loader's states, saved by so many ranks, cannot be gone on from in this world; None: they can."""
    if saved_by == world_size or isinstance(part, Reshardable):
        return None
    kind = type(part).__name__
    return (
        f"{name}: the positions of the {kind} were saved by {saved_by} ranks, here are {world_size}, and a {kind} has "
        f"no reshard() that says what becomes of them. Go on with {saved_by} ranks; or give the loader a method "
        "reshard(states, rank, world_size) (docs/data.md); or pass no loader, and its data starts anew"
    )


def own_state_for(
    name: str, part: object, saved: Sequence[dict[str, Any]], rank: int, world_size: int
) -> dict[str, Any]:
    """The state to load into `part` on `rank`; `saved` are those of all ranks that wrote the checkpoint, by rank.

    Raises:
        StateMismatch: the world has changed, and the loader does not say what becomes of its position.
    """
    if problem := unfit(name, part, len(saved), world_size):
        raise StateMismatch(problem)
    if len(saved) == world_size:
        return saved[rank]
    assert isinstance(part, Reshardable)
    return part.reshard(list(saved), rank, world_size)
