"""The models in a file: their tensors by the names that the user's own modules give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ...checkpoint.names import clean
from ...checkpoint.state import model_state
from ...checkpoint.warmstart.naming import unwrapped
from ...errors import NotExported, NotImported
from ..exporting.building import build, maker
from . import kinds
from .keys import listed
from .ordering import Model

_BUFFERS: Final = ("running_mean", "running_var", "num_batches_tracked")
"""Of torch's own normalizations. Others cannot be told from parameters without the model."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A model's state by plain names. `taken_off`: what stood before or in the names; `added` by ties to others."""

    state: Mapping[str, Any]
    taken_off: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def several(value: Any) -> dict[str, Mapping[str, Any]]:
    """State dicts by what stands before their names: one without anything, or several by their models' names."""
    if kinds.is_weights(value):
        return {"": value}
    return {f"{name}/": inner for name, inner in value.items()} if kinds.are_weights(value) else {}


def plain_state(state: Mapping[str, Any], live: nn.Module | None, prefix: str, title: str) -> Plain:
    """Without what DDP and `torch.compile` put into names, and without `prefix`; as complete as `live` says.

    Raises:
        NotImported: it does not fit `live`; no name begins with `prefix`; or something is a rank's part of a tensor.
    """
    ours = list(model_state(live)) if live is not None else []
    names = unwrapped(state, ours)
    taken_off = [wrapper for wrapper in ("module.", "_orig_mod.") if any(_without(wrapper, names))]
    if prefix:
        if not any(it.startswith(prefix) for it in names.values()):
            raise NotImported(
                f"--strip-prefix {prefix}: no name in {title} begins so; they are {listed(names.values())}"
            )
        names = {name: it.removeprefix(prefix) for name, it in names.items()}
        taken_off.append(prefix)
    if len(set(names.values())) < len(names):
        raise NotImported(f"{title}: without {' and '.join(taken_off)} two tensors would have one name")
    for name, value in state.items():
        if isinstance(value, DTensor):
            raise NotImported(f"{name} in {title} is one rank's part of a tensor: save it with DCP, which has them all")
    found = {names[name]: value for name, value in state.items()}
    added = _fit(found, live, title) if live is not None else {}
    return Plain({**found, **added}, tuple(taken_off), tuple(added))


def shapes(state: Mapping[str, Any], live: nn.Module | None) -> Model:
    """What an optimizer's numbers can be named by: the model's parameters in their order."""
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    of = {name: tuple(value.shape) for name, value in tensors.items()}
    if live is not None:
        return Model(of, [clean(name) for name, _ in live.named_parameters()])
    return Model(of, list(_first_names({name: it for name, it in tensors.items() if _may_be_trained(name, it)})))


def trained(live: nn.Module) -> list[str]:
    """The parameters that are not frozen: an optimizer may have been given these alone."""
    return [clean(name) for name, parameter in live.named_parameters() if parameter.requires_grad]


def make(spec: str) -> nn.Module:
    """The module that MODULE:CALLABLE makes, without memory where its code runs so. Raises NotImported."""
    try:
        factory = maker(spec, None, "")
        try:
            return build(factory, 0, without_memory=True)
        except NotExported:
            raise
        except Exception:  # noqa: BLE001 -- what cannot be made without memory is made with it, or shows its own error
            return build(factory, 0, without_memory=False)
    except NotExported as error:
        raise NotImported(str(error)) from None


def _without(wrapper: str, names: Mapping[str, str]) -> Iterable[bool]:
    return (name.count(wrapper) > it.count(wrapper) for name, it in names.items())


def _may_be_trained(name: str, tensor: torch.Tensor) -> bool:
    is_number = tensor.is_floating_point() or tensor.is_complex()
    return is_number and name.rpartition(".")[2] not in _BUFFERS


def _first_names(tensors: Mapping[str, torch.Tensor]) -> Iterable[str]:
    """Of tensors that are one and the same (tied weights) the first name, as `named_parameters` gives it."""
    seen: set[Any] = set()
    for name, tensor in tensors.items():
        where = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        if not tensor.numel() or where not in seen:
            yield name
        seen.add(where)


def _fit(found: Mapping[str, Any], live: nn.Module, title: str) -> dict[str, Any]:
    """What is missing and tied to something that is there. Raises NotImported naming what does not fit."""
    own = {clean(name): value for name, value in live.state_dict(keep_vars=True).items()}
    first = {id(own[name]): name for name in reversed(own) if name in found}
    added = {name: found[first[id(value)]] for name, value in own.items() if name not in found and id(value) in first}
    problems = [f"{name} is not in the file" for name in own if name not in found and name not in added]
    problems += [f"{name} is not in the model" for name in found if name not in own]
    problems += [
        f"{name} has shape {list(found[name].shape)} in the file and {list(value.shape)} in the model"
        for name, value in own.items()
        if name in found and isinstance(value, torch.Tensor) and value.shape != found[name].shape
    ]
    if problems:
        raise NotImported(f"{title} does not fit the model that --model makes: {listed(sorted(problems))}")
    return added
