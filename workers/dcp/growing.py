"""The nested state dict as JSON: grown from DCP's flat list when it is written, walked when it is read. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .naming import Path, top_key, top_key_given


@dataclass(frozen=True, slots=True)
class Leaf:
    """What is at one path: JSON, whatever it looks like."""

    node: Any


def grown(leaves: Iterable[tuple[Path, Any]]) -> tuple[dict[str, Any], list[Path]]:
    """The tree with all these leaves, and the paths for which it has no room: another leaf is on the way to them."""
    tree: dict[str, Any] = {}
    homeless = []
    for path, node in leaves:
        try:
            _put(tree, path, Leaf(node))
        except LookupError:
            homeless.append(path)
    return {top_key(key): _spelled(value) for key, value in tree.items()}, homeless


def walked(tree: dict[str, Any], values: Collection[Path] | None) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path: the tensors, and what is at the paths `values`.

    None where nobody has noted which these are (a checkpoint that DCP has not written): then it is what DCP would
    take as one, dicts being looked into always and lists where there is a tensor or a dict in them.
    """
    for key, node in tree.items():
        yield from _walked((top_key_given(key),), node, values)


def _put(tree: dict[str, Any], path: Path, leaf: Leaf) -> None:
    """Raises LookupError when something else is there."""
    inner: Any = tree
    for here, following in pairwise(path):
        inner = _child(inner, here, [] if isinstance(following, int) else {})
    if _child(inner, path[-1], leaf) is not leaf:
        raise LookupError(path)


def _child(container: Any, key: str | int, otherwise: Any) -> Any:
    """What is at `key`: where there was nothing, `otherwise`. Raises LookupError for another kind of place."""
    if isinstance(container, dict) and isinstance(key, str):
        return container.setdefault(key, otherwise)
    if isinstance(container, list) and isinstance(key, int):
        container.extend([None] * (key + 1 - len(container)))
        if container[key] is None:
            container[key] = otherwise
        return container[key]
    raise LookupError(key)


def _spelled(value: Any) -> Any:
    if isinstance(value, Leaf):
        return value.node
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    if not isinstance(value, dict):
        return value
    if any(key.startswith("$") for key in value):  # As `tree` spells such dicts.
        return {"$dict": [[key, _spelled(item)] for key, item in value.items()]}
    return {key: _spelled(item) for key, item in value.items()}


def _walked(path: Path, node: Any, values: Collection[Path] | None) -> Iterator[tuple[Path, Any]]:
    children = _children(node)
    if _is_tensor(node) or (path in values if values is not None else _is_leaf(node)):
        yield path, node
    elif children is not None:
        for key, item in children:
            yield from _walked((*path, key), item, values)


def _children(node: Any) -> list[tuple[str | int, Any]] | None:
    if isinstance(node, list):
        return list(enumerate(node))
    if not isinstance(node, dict):
        return None
    if set(node) == {"$dict"}:
        return [(str(key), item) for key, item in node["$dict"]]
    return None if _is_spelling(node) else list(node.items())


def _is_spelling(node: dict[str, Any]) -> bool:
    """Of one value: a tuple, a number that JSON lacks."""
    return len(node) == 1 and next(iter(node)).startswith("$")


def _is_tensor(node: Any) -> bool:
    return isinstance(node, dict) and set(node) == {"$tensor"}


def _is_leaf(node: Any) -> bool:
    children = _children(node)
    if children is None:
        return True
    return isinstance(node, list) and all(_is_terminal(item) for item in node)


def _is_terminal(item: Any) -> bool:
    """DCP looks into a list when one of its items is a dict, a tensor, or such a list."""
    return not _is_tensor(item) and _is_leaf(item)
