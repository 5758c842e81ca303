"""Which key of a general checkpoint is which part of a run, and which one is only misspelt. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...errors import NotImported
from . import kinds

SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "model": (
        "model_state_dict",
        "state_dict",
        "model",
        "model_state",
        "model_states",
        "model_weights",
        "net",
        "network",
        "net_state_dict",
        "weights",
        "params",
    ),
    "optimizer": (
        "optimizer_state_dict",
        "optimizer",
        "optim",
        "opt",
        "optim_state_dict",
        "opt_state_dict",
        "optimizer_state",
        "optimizer_states",
    ),
    "scheduler": (
        "scheduler_state_dict",
        "scheduler",
        "lr_scheduler_state_dict",
        "lr_scheduler",
        "lr_schedulers",
        "scheduler_state",
        "sched",
    ),
    "scaler": ("scaler_state_dict", "scaler", "grad_scaler", "grad_scaler_state_dict", "amp_scaler", "MixedPrecision"),
    "epoch": ("epoch", "current_epoch", "start_epoch"),
    "step": ("global_step", "step", "iteration", "iter", "iter_num", "num_steps", "completed_steps"),
    "loss": ("loss", "train_loss"),
}
"""The parts by name, and how they are spelt in the wild; the usual spelling first."""

TREES: Final = frozenset({"model", "optimizer", "scheduler", "scaler"})
"""The parts that are state dicts; the others are numbers."""

_FITS: Final[Mapping[str, Callable[[object], bool]]] = {
    "model": kinds.are_weights,
    "optimizer": kinds.are_optimizers,
    "scheduler": kinds.is_state,
    "scaler": kinds.is_state,
    "epoch": kinds.is_number,
    "step": kinds.is_number,
    "loss": kinds.is_number,
}

_NEAR: Final = 0.85
_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Recognised:
    """`parts`: the value and the key of each part that was found, a part's name being also "model/G" where there are
    several. `unknown`: the keys that are no part of a run.
    """

    parts: Mapping[str, tuple[str, Any]]
    unknown: tuple[str, ...] = field(default=())


def recognise(content: Mapping[str, Any], renames: Mapping[str, str], without: frozenset[str]) -> Recognised:
    """`renames`: a key of the file and what it is to be taken for; `without`: keys and parts to leave out.

    Raises:
        NotImported: a key looks like a part's that is not there.
    """
    parts = {_meaning(new): (old, content[old]) for old, new in renames.items()}
    left = {key: value for key, value in content.items() if key not in renames and key not in without}
    for part, spellings in SPELLINGS.items():
        key = next((key for key in spellings if key in left and fits(part, left[key])), None)
        if part not in parts and key is not None:
            parts[part] = (key, left[key])
    taken = {key for key, _ in parts.values()}
    unknown = tuple(key for key in left if key not in taken)
    _refuse_misspelt({key: left[key] for key in unknown}, frozenset(parts) | without)
    return Recognised({part: it for part, it in parts.items() if part not in without}, unknown)


def fits(part: str, value: object) -> bool:
    """Whether the value may be what the part is: a name under `model` is a model's name, and no model."""
    return _FITS[part](kinds.tree(value))


def _meaning(name: str) -> str:
    """What a rename's right side stands for: a part, one of several ("model/G"), or an extra part's own name."""
    first, slash, rest = name.partition("/")
    part = next((part for part, spellings in SPELLINGS.items() if first in (part, *spellings)), first)
    return f"{part}{slash}{rest}"


def _refuse_misspelt(unknown: Mapping[str, Any], settled: frozenset[str]) -> None:
    for key, value in unknown.items():
        for part, spellings in SPELLINGS.items():
            if part in settled or not fits(part, value):
                continue
            near = difflib.get_close_matches(key, spellings, n=1, cutoff=_NEAR)
            if near:
                usual = spellings[0] if part in TREES else near[0]
                raise NotImported(
                    f"the key {key!r} is not known: did you mean {usual}? To take it for that: "
                    f"--rename-key {key}={usual}; to leave it out: --without {key}"
                )


def check_options(
    renames: Mapping[str, str], without: Iterable[str], content: Collection[str], parts: Collection[str]
) -> None:
    """Raises NotImported for an option that names neither a key of the file's `content` nor one of its `parts`."""
    wanted = [(f"--rename-key {old}={new}", old) for old, new in renames.items() if old not in content]
    known = {*content, *parts, *SPELLINGS}
    wanted += [(f"--without {name}", name) for name in sorted(without) if name not in known]
    for option, name in wanted:
        near = difflib.get_close_matches(name, [*content, *parts], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise NotImported(f"{option}: there is no such key in the file.{hint} It holds: {listed([*content, *parts])}")


def listed(names: Iterable[str]) -> str:
    """For a message: as many as one can read."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more or "nothing"
