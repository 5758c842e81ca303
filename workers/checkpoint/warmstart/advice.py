"""The way out of weights that do not fit: the very line to write. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .naming import above
from .settings import InitFrom

_MOST_PATTERNS = 20
"""A longer line is no way out: then the source is of another model."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """Names of the model, and of the source after renaming: what stands in the way, and what fits."""

    wrong: Mapping[str, str]
    """Of another shape or kind, and why."""
    missing: Sequence[str]
    unexpected: Sequence[str]
    fitting: Collection[str]


def way_out(misfit: Misfit, settings: InitFrom) -> str:
    """What to write under `init_from`."""
    lines = []
    pair = likely_prefix(misfit.missing, misfit.unexpected)
    if pair is not None:
        lines.append(
            f"The names differ by a prefix. Under init_from:\n  rename: {json.dumps({**settings.rename, **pair})}"
        )
    patterns = covering([*misfit.wrong, *misfit.missing, *misfit.unexpected], misfit.fitting)
    if misfit.fitting and len(patterns) <= _MOST_PATTERNS:
        line = json.dumps([*settings.exclude, *patterns])
        lines.append(f"To load the others and leave {_these(patterns)} out, under init_from:\n  exclude: {line}")
    if misfit.fitting and not misfit.wrong:
        lines.append("To load whatever has a name here, under init_from:\n  strict: false")
    if not lines:
        lines.append("It is of another model, or its names are others: see rename, and relight show for a run's names")
    return "\n".join(lines)


def _these(patterns: Sequence[str]) -> str:
    return "this" if len(patterns) == 1 else "these"


def covering(names: Sequence[str], others: Collection[str]) -> list[str]:
    """The fewest names of modules or tensors that mean all of `names` and none of `others`."""
    taken = {part for other in others for part in above(other)}
    found: dict[str, None] = {}
    for name in names:
        found[next((part for part in above(name) if part not in taken), name)] = None
    return list(found)


def likely_prefix(missing: Sequence[str], unexpected: Sequence[str]) -> dict[str, str] | None:
    """The pair of `rename` with which at least half of what is missing would be found; None when there is none."""
    ours, theirs = set(missing), set(unexpected)
    votes: Counter[tuple[str, str]] = Counter()
    for name in theirs:
        votes.update((name[: cut.end()], "") for cut in re.finditer("[./]", name) if name[cut.end() :] in ours)
    for name in ours:
        votes.update(("", name[: cut.end()]) for cut in re.finditer("[./]", name) if name[cut.end() :] in theirs)
    if not votes:
        return None
    (pair, count), *_ = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))
    return dict([pair]) if 2 * count >= len(ours) else None
