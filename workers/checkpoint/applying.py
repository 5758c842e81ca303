"""Giving the live objects a proven checkpoint's state: first all of it is compared, then all of it is applied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...storage.shards import Piece
from ..errors import StateMismatch
from ..notices import say
from . import rng
from .dtypes import NAMES
from .models import in_place
from .optimizers import load_named_state, mismatches, state_targets
from .parts import DataOrder
from .placing import Placing
from .restoring import Found, global_pieces
from .staging import Copier
from .state import Parts, model_state, parameter_names, plain
from .tree import decode

_SHOWN = 10


def check_fits(parts: Parts, found: Found) -> None:
    """Raise `StateMismatch` naming everything that differs between the checkpoint and the live objects."""
    problems = _model_mismatches(plain(parts.model), global_pieces(found))
    problems += _part_mismatches(parts, found.state)
    if parts.optimizer is not None and "optimizer" in found.state:
        names = parameter_names(plain(parts.model))
        problems += mismatches(parts.optimizer, decode(found.state["optimizer"], _Absent()), names)
    for name, part in parts.shared.items():
        if isinstance(part, DataOrder) and name in found.state:
            problems += part.mismatches(decode(found.state[name], _Absent()))
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        message = (
            f"the checkpoint of step {found.id.step} does not fit; nothing was applied:\n  "
            + "\n  ".join(problems[:_SHOWN])
            + more
            + "\nPut the model and optimizer back as they were, or choose another storage.url to start a new run"
        )
        raise StateMismatch(message)


def apply(parts: Parts, found: Found, rank: int) -> None:
    """Load everything. Call `check_fits` before, on all ranks.

    What is loaded has memory of its own afterwards: nothing looks at the shards any more.
    """
    model = plain(parts.model)
    names = parameter_names(model)
    state = found.state
    placing = Placing(found.layouts, found.shards)
    # First all that is needed is made, then filled, several tensors at a time, and then handed over.
    loaded = _model_to_load(model, state["model"], placing)
    moments: dict[str, Any] = {}
    if parts.optimizer is not None:
        moments = decode(state["optimizer"], placing.targets(state_targets(parts.optimizer, names)))
    shared = {name: decode(state[name], placing.targets()) for name in parts.shared}
    own = decode(found.own, placing.targets()) if found.own is not None else None
    Copier(_threads(found)).copy(placing.pairs)

    if loaded is not None:
        _load_model(model, loaded)
    if parts.optimizer is not None:
        load_named_state(parts.optimizer, moments, names)
    for name, part in parts.shared.items():
        part.load_state_dict(shared[name])
    if own is not None:
        for name, part in parts.per_rank.items():
            part.load_state_dict(own[name])
        rng.restore(own["rng"])
    elif rank == 0:
        say(
            f"the checkpoint was written by {found.world_size} ranks: "
            "random generators and loaders' own states, which are each rank's, start anew"
        )


def _threads(found: Found) -> int:
    """How many of this rank may copy at once: its part of the host's processors, which torch may use up by itself."""
    return max(1, len(os.sched_getaffinity(0)) // found.neighbours // torch.get_num_threads())


class _Absent(Mapping[str, Any]):
    """Stands in for the tensors while only the JSON around them is compared."""

    def __getitem__(self, name: str) -> None:
        return None

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def _model_to_load(model: nn.Module, saved: Mapping[str, Any], placing: Placing) -> Mapping[str, Any] | None:
    """What `_load_model` is to be given; None when all of the model is filled where it is."""
    targets = in_place(model, saved, placing)
    if targets is None:
        loaded: dict[str, Any] = decode(saved, placing.targets())
        return loaded
    for name, target in targets.items():
        placing.fill(target, name)
    return None


def _load_model(model: nn.Module, saved: Mapping[str, Any]) -> None:
    # By the module's own names, which `torch.compile` may have lengthened; strict, as everything was compared before.
    live = dict(zip(model_state(model), model.state_dict(), strict=True))
    model.load_state_dict({live[name]: value for name, value in saved.items()}, strict=True)


def _model_mismatches(model: nn.Module, pieces: Mapping[str, Piece]) -> list[str]:
    live = {f"model/{name}": value for name, value in model_state(model).items() if isinstance(value, torch.Tensor)}
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


def _part_mismatches(parts: Parts, state: Mapping[str, Any]) -> list[str]:
    saved = state.keys() - {"model", "progress"}
    live = set(parts.shared) | ({"optimizer"} if parts.optimizer is not None else set())
    problems = [f"{name}: in the checkpoint, but not given here" for name in sorted(saved - live)]
    return problems + [f"{name}: given here, but not in the checkpoint" for name in sorted(live - saved)]
