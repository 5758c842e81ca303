"""What our own exports hold beside what everybody reads, so that nothing is lost on the way there and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from ...checkpoint.imported import MARK
from ...checkpoint.tree import Tensors
from ...errors import NotImported
from ..exporting.content import LAYOUT, tensor_names

_KEY: Final = "relight"


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands in a general checkpoint under `relight`. `optimizers`: class, names and their place, by key."""

    progress: Mapping[str, Any]
    optimizers: Mapping[str, Mapping[str, Any]]
    state: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]

    @property
    def parts(self) -> list[str]:
        """What it holds by the names that a checkpoint has for it, besides what every general checkpoint holds."""
        return [*self.optimizers, *self.state]

    def named(self, key: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """The optimizer's state by name, as it was before it was exported. Raises NotImported."""
        facts = self.optimizers[key]
        groups = document["param_groups"]
        if [len(group["params"]) for group in groups] != [len(names) for names in facts["params"]]:
            raise NotImported(f"the groups of {key} are not those that were exported: leave it out, --without {key}")
        names = {
            number: name
            for group, own in zip(groups, facts["params"], strict=True)
            for number, name in zip(group["params"], own, strict=True)
        }
        dropped = set() if facts["param_names"] else {"param_names"}
        return {
            "class": facts["class"],
            "state": {names.get(number, number): dict(entries) for number, entries in document["state"].items()},
            "param_groups": [
                {**{name: value for name, value in group.items() if name not in dropped}, "params": list(own)}
                for group, own in zip(groups, facts["params"], strict=True)
            ],
        }


def split(tree: Mapping[str, Any]) -> tuple[Mapping[str, Any], Beside | None]:
    """A general checkpoint, and what we have put beside it; None where that is another's.

    Raises:
        NotImported: a newer Relight has written it.
    """
    found = tree.get(_KEY)
    if not isinstance(found, Mapping) or "format" not in found:
        return tree, None
    _check(found["format"])
    beside = Beside(found["progress"], found["optimizers"], found["state"], found["tensors"])
    return {key: value for key, value in tree.items() if key != _KEY}, beside


def whole(tree: Mapping[str, Any]) -> tuple[dict[str, Any], Tensors] | None:
    """The global state of a DCP folder that we have written; None of another's. Raises as `split` does."""
    if not isinstance(tree.get(_KEY), str):
        return None
    try:
        found = json.loads(tree[_KEY])
        _check(found["format"])
        state: dict[str, Any] = found["state"]
    except (ValueError, KeyError, TypeError):
        return None
    state.pop(MARK, None)
    tensors = dict(_placed(tree, ""))
    if lost := tensor_names(state) - tensors.keys():
        raise NotImported(f"{min(lost)} is missing from what was exported: it is not whole")
    return state, {name: tensors[name] for name in sorted(tensor_names(state))}


def add_rest(
    beside: Beside, state: dict[str, Any], tensors: Tensors, parts: dict[str, str], without: frozenset[str]
) -> None:
    """What the general checkpoint has no place for; it goes before what is outside in a poorer spelling."""
    for key, value in beside.state.items():
        if key in without or key == MARK:
            continue
        for name in [name for name in tensors if name.startswith(f"{key}/")]:
            del tensors[name]
        state[key] = value
        tensors.update({name: beside.tensors[name] for name in tensor_names(value)})
        parts[key] = "as it was exported"


def _check(layout: object) -> None:
    if layout != LAYOUT:
        raise NotImported(
            f"it was exported by a newer Relight (layout {layout}, this one reads {LAYOUT}): update this one"
        )


def _placed(node: Any, place: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor by the names of its place."""
    if isinstance(node, torch.Tensor):
        yield place, node
        return
    inside = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inside:
        yield from _placed(value, f"{place}/{key}" if place else str(key))
