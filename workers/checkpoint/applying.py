"""Giving the live objects a proven checkpoint's state: all of it is compared, then brought, then applied."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ...storage.shards import Piece
from ..errors import StateMismatch
from ..notices import say
from . import rng
from .dtypes import NAMES
from .heads import Head
from .imported import MARK, held_parts, way_out, what_begins_anew
from .loaders import own_state_for, unfit
from .models import Loading, fill_model
from .optimizers import load_named_state, mismatches, state_targets
from .parts import DataOrder
from .placing import Make, Placing, tensor_like
from .positions import Position
from .restoring import Found
from .state import Parts, Stateful
from .tree import Tensors, decode, encode

_SHOWN = 10


class Fitting:
    """A run's live objects, to be given the state of one checkpoint or another. One for each restore.

    `is_blank`: what is in the models is nobody's (they were on the meta device), so it may be written at any time.
    """

    def __init__(self, parts: Parts, rank: int, world_size: int, *, is_blank: bool = False) -> None:
        self._parts = parts
        self._rank = rank
        self._world_size = world_size
        self._is_blank = is_blank
        self._loadings: list[Loading] = []
        self.has_begun = False
        """Whether a candidate may have left something in what is blank."""

    def prepare(self, head: Head) -> Placing:
        """What of the checkpoint is needed here. Nothing that lives is touched but what is blank.

        Raises:
            StateMismatch: it does not fit; everything that differs is named.
        """
        parts, anew = held_parts(self._parts, head.state)
        check_fits(parts, head, self._world_size)
        self.has_begun = True
        placing = Placing(head.layouts, self._rank)
        state = head.state
        self._loadings = [
            fill_model(model, prefix, state["model"], placing, is_new=self._is_blank)
            for prefix, model in parts.models.items()
        ]
        names = parts.parameter_names()
        for key, optimizer in parts.optimizers.items():
            moments = decode(state[key], placing.targets(state_targets(optimizer, key, names)))
            self._loadings.append(partial(load_named_state, optimizer, moments, names))
        for name, part in parts.shared.items():
            value = decode(state[name], placing.targets(_sharded_as(part, name)))
            self._loadings.append(partial(part.load_state_dict, value))
        for name, part in parts.per_rank.items():
            self._loadings.append(partial(self._load_own, name, part, self._saved_by_ranks(name, head, placing)))
        if MARK in state:
            if self._rank == 0:
                self._loadings.append(partial(say, what_begins_anew(state, anew, head.progress["epoch"])))
        elif head.world_size == self._world_size:
            generators = decode(head.own(self._rank)["rng"], placing.targets())
            self._loadings.append(partial(rng.restore, generators))
        elif self._rank == 0:
            self._loadings.append(partial(_say_who_starts_anew, head))
        return placing

    def _saved_by_ranks(self, name: str, head: Head, placing: Placing) -> list[dict[str, Any]]:
        """What every rank has saved of a part; where the world is the same, this rank's alone is brought."""
        same = head.world_size == self._world_size
        return [
            decode(head.own(rank)[name], placing.targets()) if not same or rank == self._rank else {}
            for rank in range(head.world_size)
        ]

    def _load_own(self, name: str, part: Stateful, saved: list[dict[str, Any]]) -> None:
        part.load_state_dict(own_state_for(name, part, saved, self._rank, self._world_size))

    def apply(self, found: Found) -> None:
        """Load everything. What is loaded has memory of its own afterwards: nothing looks at the shelf any more."""
        found.fill()
        for load in self._loadings:
            load()


def check_fits(parts: Parts, head: Head, world_size: int) -> None:
    """Raise `StateMismatch` naming everything that differs between the checkpoint and the live objects."""
    problems = _model_mismatches(parts, head.pieces)
    problems += _part_mismatches(parts, head.state)
    names = parts.parameter_names()
    for key, optimizer in parts.optimizers.items():
        if key in head.state:
            problems += [f"{key}: {text}" for text in mismatches(optimizer, decode(head.state[key], _Absent()), names)]
    for name, part in parts.shared.items():
        if isinstance(part, DataOrder) and name in head.state:
            problems += part.mismatches(decode(head.state[name], _Absent()))
    problems += _own_mismatches(parts, head, world_size)
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        message = (
            f"the checkpoint of step {head.id.step} does not fit; nothing was applied:\n  "
            + "\n  ".join(problems[:_SHOWN])
            + more
            + f"\n{way_out(head.state)}"
        )
        raise StateMismatch(message)


def _sharded_as(part: Stateful, name: str) -> Make:
    """New tensors for a part's state, sharded where the part's own are (a copy of the model, say)."""
    live: Tensors = {}
    encode(dict(part.state_dict()), name, live)
    return lambda saved_as, piece: tensor_like(live.get(saved_as), piece)


def _say_who_starts_anew(head: Head) -> None:
    say(
        f"the checkpoint was written by {head.world_size} ranks: "
        "the random generators, which are each rank's, start anew"
    )


class _Absent(Mapping[str, Any]):
    """Stands in for the tensors while only the JSON around them is compared."""

    def __getitem__(self, name: str) -> None:
        return None

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def _model_mismatches(parts: Parts, pieces: Mapping[str, Piece]) -> list[str]:
    state = parts.model_state()
    live = {f"model/{name}": value for name, value in state.items() if isinstance(value, torch.Tensor)}
    saved = {name: piece for name, piece in pieces.items() if name.startswith("model/")}
    problems = [f"{name}: in the checkpoint, not in this model" for name in saved if name not in live]
    for name, tensor in live.items():
        piece = saved.get(name)
        if piece is None:
            problems.append(f"{name}: in this model, not in the checkpoint")
        elif piece.global_shape != tuple(tensor.shape):
            problems.append(f"{name}: shape {list(piece.global_shape)} in the checkpoint, {list(tensor.shape)} here")
        elif piece.dtype != NAMES.get(tensor.dtype):
            problems.append(f"{name}: dtype {piece.dtype} in the checkpoint, {NAMES.get(tensor.dtype)} here")
    return sorted(problems)


def _own_mismatches(parts: Parts, head: Head, world_size: int) -> list[str]:
    """Of the parts that each rank has a state of its own of."""
    problems = []
    for name, part in parts.per_rank.items():
        if not all(name in head.own(rank) for rank in range(head.world_size)):
            problems.append(f"{name}: given here, but not in the checkpoint")
        elif problem := unfit(name, part, head.world_size, world_size):
            problems.append(problem)
        elif isinstance(part, Position):
            problems += part.mismatches([head.own(rank)[name] for rank in range(head.world_size)], world_size)
    return problems


def _part_mismatches(parts: Parts, state: Mapping[str, Any]) -> list[str]:
    saved = state.keys() - {"model", "progress", MARK}
    live = parts.shared.keys() | parts.optimizers.keys()
    problems = [f"{name}: in the checkpoint, but not given here" for name in sorted(saved - live)]
    return problems + [f"{name}: given here, but not in the checkpoint" for name in sorted(live - saved)]
