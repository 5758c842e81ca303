"""`relight diff`: two checkpoints, tensor by tensor and value by value, in bounded memory. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import xxhash

from ...storage.backends.open import open_backend
from ...storage.choosing import Complain, choices
from ...storage.digest import IMPORTED
from ...storage.errors import Damaged
from ...storage.sealed import canonical
from ...storage.target import split_target
from ...storage.whole import Whole
from .copying import Progress

Facts = dict[str, Any]
Advance = Callable[[int], object]


class Side:
    """One of the two: the newest checkpoint that is good, or exactly the step that is asked for."""

    def __init__(self, target: str, complain: Complain) -> None:
        url, self._step = split_target(target)
        self._complain = complain
        self._backend = open_backend(url)
        self._left = choices(self._backend, self._step)
        self._manifest = next(self._left)

    def whole(self) -> Whole:
        return Whole(self._backend, self._manifest)

    def holds(self, key: str) -> bool:
        return key.startswith(self._manifest.id.folder)

    def pass_over(self, error: Damaged) -> None:
        """Take the next older one. Raises the error itself where a step was asked for, NotFound when none is left."""
        if self._step is not None:
            raise error
        self._complain(f"step {self._manifest.step} of {self._backend.url} is passed over: {error}")
        self._manifest = next(self._left)

    @property
    def facts(self) -> Facts:
        return {"url": self._backend.url, "step": self._manifest.step, "name": self._manifest.id.name}


def compare(target: str, other: str, *, complain: Complain, progress: Progress) -> Facts:
    """What differs between the global states of two checkpoints.

    Raises:
        NotFound: one of them is not there.
        Damaged: one that was asked for by its step is.
    """
    sides = Side(target, complain), Side(other, complain)
    while True:
        try:
            first, second = (side.whole() for side in sides)
            with progress(_bytes(first) + _bytes(second)) as advance:
                tensors = [found for name in _names(first, second) if (found := _tensor(name, first, second, advance))]
        except Damaged as error:
            for side in {id(side): side for side in sides if side.holds(error.key)}.values():
                side.pass_over(error)
        else:
            break
    state = list(differences(_state(first), _state(second)))
    facts = {"a": sides[0].facts, "b": sides[1].facts}
    return {**facts, "equal": not tensors and not state, "tensors": tensors, "state": state}


def _bytes(whole: Whole) -> int:
    return sum(piece.size for piece in whole.tensors.values())


def _names(first: Whole, second: Whole) -> list[str]:
    return sorted(first.tensors.keys() | second.tensors.keys())


def _state(whole: Whole) -> Facts:
    return {key: value for key, value in whole.state.items() if key != IMPORTED}


def _tensor(name: str, first: Whole, second: Whole, advance: Advance) -> Facts | None:
    """How a tensor differs; None where it does not."""
    shapes = {side: _shape(whole, name) for side, whole in (("a", first), ("b", second)) if name in whole.tensors}
    if len(shapes) == 1:
        return {"name": name, "what": f"only in {next(iter(shapes))}", **shapes}
    if shapes["a"] != shapes["b"]:
        return {"name": name, "what": "shape or dtype", **shapes}
    dtype, distance = first.tensors[name].dtype, None
    elements = math.prod(first.tensors[name].global_shape)
    for one, two in side_by_side(first.chunks(name), second.chunks(name)):
        advance(len(one) + len(two))
        if xxhash.xxh3_128_digest(one) != xxhash.xxh3_128_digest(two):  # Without a copy of either.
            from .elements import Distance  # numpy, only where there is something to compute.

            distance = distance or Distance()
            distance.add(dtype, one, two)
    if distance is None:
        return None
    share = distance.differing / elements
    largest = distance.largest if math.isfinite(distance.largest) else str(distance.largest)
    return {"name": name, "what": "values", **shapes, "differing": distance.differing, "elements": elements,
            "share": share, "max_abs_diff": largest}  # fmt: skip


def _shape(whole: Whole, name: str) -> Facts:
    piece = whole.tensors[name]
    return {"dtype": piece.dtype, "shape": list(piece.global_shape)}


def side_by_side(first: Iterator[memoryview], second: Iterator[memoryview]) -> Iterator[tuple[memoryview, memoryview]]:
    """The same bytes of both, however each is cut. They are of one length in all."""
    one = two = memoryview(b"")
    while True:
        one = one or next(first, memoryview(b""))
        two = two or next(second, memoryview(b""))
        length = min(len(one), len(two))
        if not length:
            return
        yield one[:length], two[:length]
        one, two = one[length:], two[length:]


def differences(first: Any, second: Any, path: str = "") -> Iterator[Facts]:
    """Where two JSON values differ: `path`, and what is there in `a` and in `b` where anything is. Pure."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys()):
            yield from _inside(first, second, key, f"{path}.{key}" if path else key)
    elif isinstance(first, list) and isinstance(second, list):
        one, two = dict(enumerate(first)), dict(enumerate(second))
        for number in range(max(len(first), len(second))):
            yield from _inside(one, two, number, f"{path}[{number}]")
    elif canonical(first) != canonical(second):
        yield {"path": path, "a": first, "b": second}


def _inside(first: dict[Any, Any], second: dict[Any, Any], key: Any, path: str) -> Iterator[Facts]:
    if key in first and key in second:
        yield from differences(first[key], second[key], path)
    else:
        yield {"path": path} | ({"a": first[key]} if key in first else {"b": second[key]})
