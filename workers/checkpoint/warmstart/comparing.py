"""What of a source goes where in the model, and what does not fit. Pure: tensors are described, none is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch

from ...errors import BadWeights, StateMismatch
from .advice import Misfit, way_out
from .naming import Wanted, chosen, renamed, unwrapped
from .settings import InitFrom
from .tensors import Described

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Wanting:
    """A model, as far as names go. `tied`: a name and the first name of the same tensor; `optional` may be missing."""

    tensors: Mapping[str, Described]
    tied: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Comparison:
    """`pairs`: (name in the source, name of the model), in the source's order; all other fields are names.

    `converted` are loaded into another dtype. `kept` are left as they are by the user's choice, `missing` because the
    source lacks them; `left` are in the source and not chosen, `unexpected` are in no model. `unwrapped` is whether
    wrappers' names were taken off.
    """

    pairs: tuple[tuple[str, str], ...]
    converted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    unwrapped: bool = False


def compare(source: Mapping[str, Described], model: Wanting, settings: InitFrom, title: str) -> Comparison:
    """What is to be loaded under these settings.

    Raises:
        BadWeights: a pattern matches nothing, or nothing is left to load.
        StateMismatch: something is missing, unexpected or of another shape, and that was not allowed.
    """
    if not source:
        raise BadWeights(f"init_from: there are no tensors in {title}")
    plain = unwrapped(source, model.tensors)
    theirs = {it: name for name, it in renamed(plain, settings.rename).items()}
    wanted = chosen(list({**model.tensors, **theirs}), settings.include, settings.exclude)
    pairs = tuple((theirs[name], name) for name in theirs if name in model.tensors and wanted(name))
    done = Comparison(
        pairs=pairs,
        converted=tuple(ours for name, ours in pairs if source[name].dtype != model.tensors[ours].dtype),
        kept=tuple(name for name in model.tensors if not wanted(name)),
        missing=_missing(model, wanted, {ours for _, ours in pairs}),
        left=tuple(name for name in theirs if not wanted(name)),
        unexpected=tuple(name for name in theirs if name not in model.tensors and wanted(name)),
        unwrapped=any(name != it for name, it in plain.items()),
    )
    _refuse_misfit(done, source, model, settings, title)
    return done


def _refuse_misfit(
    done: Comparison, source: Mapping[str, Described], model: Wanting, settings: InitFrom, title: str
) -> None:
    wrong = {ours: why for name, ours in done.pairs if (why := _difference(source[name], model.tensors[ours]))}
    strict = settings.strict or not done.pairs
    misfit = Misfit(
        wrong=wrong,
        missing=[name for name in done.missing if strict and name not in model.optional],
        unexpected=done.unexpected if strict else (),
        fitting={ours for _, ours in done.pairs} - set(wrong),
    )
    lines = [f"{name}: {why}" for name, why in wrong.items()]
    lines += [f"{name}: in the model, not in the source" for name in misfit.missing]
    lines += [f"{name}: in the source, not in the model" for name in misfit.unexpected]
    if lines:
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        said = [f"{title} does not fit this model; nothing was loaded:", *lines[:_SHOWN], *more]
        raise StateMismatch("\n  ".join(said) + "\n" + way_out(misfit, settings))


def _missing(model: Wanting, wanted: Wanted, found: Collection[str]) -> tuple[str, ...]:
    """A tensor that has several names has all it needs when one of them is found."""
    there = {model.tied.get(name, name) for name in found}
    return tuple(name for name in model.tensors if wanted(name) and model.tied.get(name, name) not in there)


def _difference(theirs: Described, ours: Described) -> str:
    if theirs.shape != ours.shape:
        return f"shape {list(theirs.shape)} in the source, {list(ours.shape)} here"
    if not torch.can_cast(theirs.dtype, ours.dtype):
        return f"{theirs.kind} in the source, {ours.kind} here, which it cannot be converted to"
    return ""
