"""Which checkpoints may go. Pure: the caller knows the storage, this knows the rule."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .layout import AttemptId


def doomed(committed: Sequence[AttemptId], *, keep_last: int, protected: Collection[AttemptId]) -> list[AttemptId]:
    """The checkpoints to delete, oldest first.

    Kept are the `keep_last` (>= 1) newest of `committed`, which must be valid ones, and all that are `protected`:
    what a live generation resumed from.
    """
    if keep_last < 1:
        message = f"keep_last must be at least 1, not {keep_last}"
        raise ValueError(message)
    oldest_first = sorted(committed)
    return [attempt for attempt in oldest_first[:-keep_last] if attempt not in protected]
