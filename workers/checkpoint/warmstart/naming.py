"""Names in a source and of the model: wrappers taken off, renames applied, patterns that must mean something. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from ....configs.initial import pattern, rewriting
from ...errors import BadWeights
from ..names import clean

_REPLICA = "module."
"""What DistributedDataParallel and DataParallel put before every name."""

_SHOWN = 8

T = TypeVar("T")

Wanted = Callable[[str], bool]


def unwrapped(names: Iterable[str], live: Iterable[str]) -> dict[str, str]:
    """Each name in the source without what `torch.compile` and DDP have put there, unless the model's has it too."""
    ours = set(live)
    found = {name: name if name in ours else clean(name) for name in names}
    replica = all(name.startswith(_REPLICA) for name in found.values()) and ours.isdisjoint(found.values())
    return {name: it.removeprefix(_REPLICA) if replica else it for name, it in found.items()}


def renamed(names: Mapping[str, str], pairs: Mapping[str, str]) -> dict[str, str]:
    """`names` (in the source: so far) with every pair applied to the result of the one before.

    Raises:
        BadWeights: a pair changes nothing, or two tensors come to the same name.
    """
    result = dict(names)
    for old, new in pairs.items():
        rewrite = _checked("rename", partial(rewriting, old, new))
        before, result = result, {name: rewrite(it) for name, it in result.items()}
        if result == before and before:
            raise BadWeights(_means_nothing("rename", old, before.values()))
    _refuse_twins(result)
    return result


def chosen(names: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> Wanted:
    """Which names are to be loaded. `names` are all of them, of the model and of the source.

    Raises:
        BadWeights: a pattern matches none of them: it is a slip.
    """
    includes, excludes = (
        [_meaning(key, text, names) for text in texts] for key, texts in (("include", include), ("exclude", exclude))
    )

    def wanted(name: str) -> bool:
        return (not includes or any(each(name) for each in includes)) and not any(each(name) for each in excludes)

    if not any(map(wanted, names)):
        raise BadWeights("init_from: include and exclude leave nothing to load. Leave init_from out to load nothing")
    return wanted


def above(name: str) -> list[str]:
    """All modules that the name is below, outermost first; the last is the name itself."""
    return [name[: cut.start()] for cut in re.finditer("[./]", name)] + [name]


def _meaning(key: str, text: str, names: Sequence[str]) -> Wanted:
    matches = _checked(key, partial(pattern, text))
    if not any(map(matches, names)):
        raise BadWeights(_means_nothing(key, text, names))
    return matches


def _checked(key: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as error:
        raise BadWeights(f"init_from.{key}: {error}") from None


def _means_nothing(key: str, text: str, names: Iterable[str]) -> str:
    modules = list(dict.fromkeys(part for name in names for part in above(name)))
    near = difflib.get_close_matches(text.rstrip(".*"), modules, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    where = "no name in the source" if key == "rename" else "no name of the model, nor one in the source"
    tops = [module for module in modules if not re.search("[./]", module)]
    shown = ", ".join(tops[:_SHOWN]) + (", ..." if len(tops) > _SHOWN else "")
    return f"init_from.{key}: {text!r} matches {where}.{hint} They begin with: {shown}"


def _refuse_twins(names: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for name, it in names.items():
        if it in seen:
            raise BadWeights(
                f"init_from.rename: {seen[it]} and {name} of the source would both be {it}. "
                "Write the pairs so that each tensor keeps a name of its own"
            )
        seen[it] = name
