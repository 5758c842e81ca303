"""From what a file holds to the global state of a checkpoint: JSON, and the tensors that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from ...checkpoint.names import clean
from ...checkpoint.tree import Tensors, encode
from ...errors import NotCaptured, NotImported
from . import keys, kinds, models, optimizers, ours, standing
from .content import Content
from .wishes import Wishes

_EXTRA_STATE: Final = "_extra_state"
_NUMBERS: Final = keys.SPELLINGS.keys() - keys.TREES


@dataclass(slots=True)
class Gathered:
    """`state` is the global JSON but for the mark; `parts`, `notes` and `left_out` are for people: see `Imported`."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, key: str, value: Any, what: str) -> None:
        """Raises NotImported when it cannot be kept without pickle."""
        try:
            self.state[key] = encode(value, key, self.tensors)
        except NotCaptured as error:
            raise NotImported(f"{error}; to leave it out: --without {key}") from None
        self.parts[key] = what


def gather(content: Content, wishes: Wishes) -> Gathered:
    """Everything that is a part of a run.

    Raises:
        NotImported: there is no model in it, or something in it cannot be told apart or kept.
    """
    if (own := ours.whole(content.tree)) is not None:
        return _of_ours(own, content, wishes)
    return _Gathering(content, wishes).run()


def _of_ours(own: tuple[dict[str, Any], Tensors], content: Content, wishes: Wishes) -> Gathered:
    state, tensors = own
    keys.check_options(wishes.renames, wishes.without, (), state)
    parts = {key: "as it was exported" for key in state if key not in {"progress", *wishes.without}}
    found = Gathered(f"{content.kind}, exported by Relight", parts=parts)
    found.state = {key: value for key, value in state.items() if key in parts}
    found.state["progress"] = standing.as_wished(state["progress"], wishes)
    found.tensors = {name: it for name, it in tensors.items() if not _belongs(name, wishes.without)}
    return found


class _Gathering:
    """Of one file. `_states`: each model's state by plain names, by what stands before them in a checkpoint."""

    def __init__(self, content: Content, wishes: Wishes) -> None:
        self._title = content.title
        self._wishes = wishes
        self._tree, self._beside = ours.split(content.tree)
        there = self._beside.parts if self._beside is not None else ()
        keys.check_options(wishes.renames, wishes.without, self._tree, there)
        is_flat = _is_flat(self._tree)
        kind = "a state dict" if is_flat else "a general checkpoint"
        self._found = Gathered(kind if content.kind == "torch" else content.kind)
        recognise = _recognise_flat if is_flat else keys.recognise
        recognised = recognise(self._tree, wishes.renames, wishes.without)
        self._parts, self._unknown = recognised.parts, recognised.unknown
        self._live = models.make(wishes.model) if wishes.model is not None else None
        self._states: dict[str, Mapping[str, Any]] = {}

    def run(self) -> Gathered:
        self._add_models()
        self._add_optimizers()
        self._add_others()
        self._leave_out()
        before = self._beside.progress if self._beside is not None else None
        facts, notes = standing.facts(self._parts, self._tree, before)
        self._found.notes += notes
        self._found.state["progress"] = encode(standing.as_wished(facts, self._wishes), "progress", {})
        return self._found

    def _add_models(self) -> None:
        states = self._models()
        plain = {prefix: self._plain(state) for prefix, state in states.items()}
        self._states = {prefix: it.state for prefix, it in plain.items()}
        whole = {prefix + name: value for prefix, state in self._states.items() for name, value in state.items()}
        count = sum(isinstance(value, torch.Tensor) for value in whole.values())
        key = next(key for part, (key, _) in self._parts.items() if _home(part) == "model")
        self._found.add("model", whole, f"{count} tensors{_under(key)}")
        for taken in sorted({wrapper for it in plain.values() for wrapper in it.taken_off}):
            self._found.notes.append(f"{taken!r} is taken off the names of the model's tensors")
        for added in (name for it in plain.values() for name in it.added):
            self._found.notes.append(f"{added} is not in the file: the model ties it to a tensor that is")

    def _models(self) -> dict[str, Mapping[str, Any]]:
        states: dict[str, Mapping[str, Any]] = {}
        for part, (_, value) in self._parts.items():
            if _home(part) == "model":
                name = part.partition("/")[2]
                states |= {f"{name}/": kinds.tree(value)} if name else models.several(kinds.tree(value))
        if not states:
            raise NotImported(
                f"{self._title} holds no model's weights that could be told: {keys.listed(self._tree)}. If one of "
                "these is the model's state dict, name it: --rename-key KEY=model_state_dict"
            )
        if self._live is not None and len(states) > 1:
            raise NotImported(f"--model names one model, and {self._title} holds {keys.listed(states)}")
        return states

    def _plain(self, state: Mapping[str, Any]) -> models.Plain:
        if self._beside is not None:
            return models.Plain(state)  # We have put nothing into the names, and a user's own `module.` stays.
        return models.plain_state(state, self._live, self._wishes.strip_prefix, self._title)

    def _add_optimizers(self) -> None:
        for part, (key, value) in self._parts.items():
            if _home(part) != optimizers.KEY:
                continue
            for name, document in optimizers.several(kinds.tree(value), key).items():
                self._add_optimizer(name if part == optimizers.KEY else part, key, document)

    def _add_optimizer(self, part: str, key: str, document: Mapping[str, Any]) -> None:
        if self._beside is not None and part in self._beside.optimizers:
            named, how = self._beside.named(part, document), "by the names in it"
        else:
            prefix = f"{part.partition('/')[2]}/"
            own = {prefix: self._states[prefix]} if prefix in self._states else self._states
            tensors = {before + name: value for before, state in own.items() for name, value in state.items()}
            model = models.shapes(tensors, self._live)
            named, how = optimizers.named(document, model, self._live, _plainly(own), part)
        steps = optimizers.steps(document)
        counted = f", {steps} steps" if steps is not None else ""
        self._found.add(part, named, f"state of {len(named['state'])} parameters{counted}{_under(key)}, named {how}")

    def _add_others(self) -> None:
        for part, (key, value) in self._parts.items():
            if _home(part) in {"model", optimizers.KEY, *_NUMBERS}:
                continue
            state = kinds.tree(value)
            if not isinstance(state, Mapping):
                what = type(value).__name__
                raise NotImported(f"--rename-key {key}={part}: it is a {what}, and a part's state is a dict")
            self._found.add(part, dict(state), f"its state{_under(key)}")
        if self._beside is not None:
            found = self._found
            ours.add_rest(self._beside, found.state, found.tensors, found.parts, self._wishes.without)

    def _leave_out(self) -> None:
        self._found.left_out += self._unknown
        kept = next((key for key in self._unknown if isinstance(self._tree[key], Mapping)), None)
        if kept is not None:
            note = f"{kept} can be kept, for Checkpointer(extra={{'NAME': ...}}): --rename-key {kept}=NAME"
            self._found.notes.append(note)


def _is_flat(tree: Mapping[str, Any]) -> bool:
    """Whether the whole tree is the model's, and not what is under one of its keys, however that is spelt."""
    inside = (value for key, value in tree.items() if not key.endswith(_EXTRA_STATE))
    return kinds.is_weights(tree) and not any(map(kinds.are_weights, inside))


def _recognise_flat(tree: Mapping[str, Any], renames: Mapping[str, str], without: frozenset[str]) -> keys.Recognised:
    """Of a state dict, with whatever else stands between its tensors."""
    weights = {key: it for key, it in tree.items() if isinstance(it, torch.Tensor) or key.endswith(_EXTRA_STATE)}
    rest = {key: value for key, value in tree.items() if key not in weights}
    if taken := [old for old in renames if old in weights]:
        raise NotImported(f"--rename-key {taken[0]}={renames[taken[0]]}: it is one of the model's tensors")
    found = keys.recognise({"model": weights, **rest}, renames, without)
    return keys.Recognised({**found.parts, "model": ("", weights)}, found.unknown)


def _plainly(states: Mapping[str, Mapping[str, Any]]) -> Callable[[str], str]:
    """What gives an optimizer's name for a parameter the model's."""
    prefix = next(iter(states)) if len(states) == 1 else ""
    own = {before + name for before, state in states.items() for name in state}

    def plain(name: str) -> str:
        tries = (name, clean(name), clean(name).removeprefix("module."))
        return next((found for it in tries if (found := prefix + it) in own), prefix + name)

    return plain


def _home(part: str) -> str:
    return part.partition("/")[0]


def _belongs(name: str, parts: frozenset[str]) -> bool:
    return any(name.startswith(f"{part}/") for part in parts)


def _under(key: str) -> str:
    return f" (under {key!r})" if key else ""
