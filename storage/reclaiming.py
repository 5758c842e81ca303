"""What may be deleted from a run by somebody who is not its launcher, and why. Pure: the caller knows the storage."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from . import generations, sweep
from .catalog import Listed, Standing
from .layout import AttemptId
from .retention import Rules


@dataclass(frozen=True, slots=True)
class Going:
    """One attempt that is of no use any more. `why` is for people."""

    id: AttemptId
    why: str


def viewpoint(listing: Collection[Listed], newest: int, *, ended: bool) -> AttemptId:
    """Whose eyes to look through: those of the writer of what was committed last in the newest generation.

    What that one takes for garbage nobody writes any more. `ended`: nobody of that generation writes any more at all.
    """
    if ended:
        return AttemptId(0, newest + 1, 0, "000000")
    done = [each.id for each in listing if each.id.generation == newest and each.standing is not Standing.UNFINISHED]
    return max(done, key=lambda id_: (id_.attempt, id_.step), default=AttemptId(0, newest, 0, "000000"))


def reclaimable(
    listing: Sequence[Listed],
    known: Mapping[int, generations.Generation | None],
    rules: Rules | None,
    *,
    ended: bool = False,
    spare_unfinished: bool = False,
) -> list[Going]:
    """Oldest first what retention lets go (nothing without `rules`), then what nobody can ever use.

    What the newest generation resumed from stays, and what it may still be writing: see `viewpoint`.
    """
    newest = max(known, default=0)
    latest = known.get(newest)
    resumed_from = latest.resumed_from if latest is not None else None
    by_id = {each.id: each for each in listing}
    going: list[Going] = []
    if rules is not None:
        protected = [id_ for id_ in by_id if id_.step == resumed_from]
        going += [Going(id_, _let_go(by_id[id_])) for id_ in sweep.old(listing, rules, protected=protected)]
    if not spare_unfinished:
        useless = sweep.garbage(listing, viewpoint(listing, newest, ended=ended))
        going += [Going(id_, _useless(by_id[id_])) for id_ in sorted(useless)]
    return going


def _let_go(listed: Listed) -> str:
    return (
        "no rule keeps it"
        if listed.standing is Standing.COMMITTED
        else f"damaged, and no rule keeps it: {listed.reason}"
    )


def _useless(listed: Listed) -> str:
    if listed.standing is Standing.FENCED:
        return f"nobody can resume from it: {listed.reason}"
    return "a save that was never finished"
