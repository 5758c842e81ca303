"""What of a checkpoint's global state each format holds, and how it is spelled there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...checkpoint.decoding import decode

LAYOUT: Final = 1
"""Of what stands under `relight` in a checkpoint and in a DCP folder."""
MODEL: Final = "model/"
_OPTIMIZER: Final = "optimizer"
_TENSORS: Final = frozenset({"$tensor", "$numpy", "$bytes"})
"""How what is stored as a tensor is spelled: as one, as an array of NumPy's, as bytes."""
_NAMED: Final = frozenset({"model", "progress", "scheduler"})
_NOT_EXPORTED: Final = frozenset({"imported"})
"""The mark of a checkpoint that was imported: what is exported is whole as it is."""


def exported(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of the state is exported at all."""
    return {key: value for key, value in state.items() if key not in _NOT_EXPORTED}


def is_tensor(node: Any) -> bool:
    return isinstance(node, Mapping) and len(node) == 1 and not _TENSORS.isdisjoint(node)


def model_names(state: Mapping[str, Any]) -> list[str]:
    """The names of several models; none where there is one, without a name."""
    found = {name.partition("/")[::2] for name in state.get("model", {})}
    return sorted({model for model, _ in found}) if found and all(rest for _, rest in found) else []


def model_entries(state: Mapping[str, Any], only: str | None) -> dict[str, Any]:
    """The encoded state dict of one model, by the names that its module has; of the one called `only`, if given."""
    prefix = f"{only}/" if only else ""
    entries = state.get("model", {})
    return {name.removeprefix(prefix): value for name, value in entries.items() if name.startswith(prefix)}


def model_states(state: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict; of several models theirs by name."""
    names = model_names(state)
    if not names:
        found: dict[str, Any] = decode_plain(model_entries(state, None), tensors)
        return found
    return {name: decode_plain(model_entries(state, name), tensors) for name in names}


def optimizer_keys(state: Mapping[str, Any]) -> list[str]:
    """Of what is the state of an optimizer, with parameters by name: DCP's users may keep anything under that name."""
    return sorted(key for key, value in state.items() if _is_optimizer(key, value))


def _is_optimizer(key: str, value: Any) -> bool:
    if key != _OPTIMIZER and not key.startswith(f"{_OPTIMIZER}/"):
        return False
    groups = value.get("param_groups") if isinstance(value, Mapping) and "state" in value else None
    return isinstance(groups, list) and all(isinstance(group, Mapping) and "params" in group for group in groups)


def general_checkpoint(state: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The one dict of epoch, model, optimizer and loss. All that is in it can be loaded with weights_only=True."""
    progress = decode(state["progress"], tensors)
    keys = optimizer_keys(state)
    named = {key: decode_plain(state[key], tensors) for key in keys}
    optimizers = {key: numbered(named[key]) for key in keys}
    found = {
        "epoch": progress["epoch"],
        "step": progress["step"],
        "loss": progress["loss"],
        "model_state_dict": model_states(state, tensors),
    }
    if optimizers:
        by_name = {key.removeprefix(f"{_OPTIMIZER}/"): value for key, value in optimizers.items()}
        found["optimizer_state_dict"] = by_name.get(_OPTIMIZER, by_name)
    if "scheduler" in state:
        found["scheduler_state_dict"] = decode_plain(state["scheduler"], tensors)
    rest = {key: value for key, value in exported(state).items() if _is_rest(key, value)}
    found["relight"] = {
        "format": LAYOUT,
        "progress": progress,
        "models": model_names(state),
        "optimizers": {key: _names_of(named[key]) for key in keys},
        "state": rest,
        "tensors": {name: tensors[name] for name in sorted(tensor_names(rest))},
    }
    return found


def nested(state: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The whole state as nested dicts, as torch.distributed.checkpoint has it."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        if key == "model":
            found["model"] = model_states(state, tensors)
        else:
            group, _, name = key.partition("/") if key.startswith(f"{_OPTIMIZER}/") else (key, "", "")
            decoded = decode_plain(value, tensors)
            if name:
                found.setdefault(group, {})[name] = decoded
            else:
                found[group] = decoded
    return found


def numbered(named: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state as torch spells it, by number; the names stand beside the numbers in each group."""
    names = [name for group in named["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    groups = []
    for group in named["param_groups"]:
        options = {key: value for key, value in group.items() if key != "params"}
        own = list(group["params"])
        groups.append({"param_names": own, **options, "params": [numbers[name] for name in own]})
    state = {numbers.get(name, name): value for name, value in named["state"].items()}
    in_order = [number for number in numbers.values() if number in state]
    others = state.keys() - numbers.values()
    return {"state": {key: state[key] for key in [*in_order, *sorted(others, key=str)]}, "param_groups": groups}


def decode_plain(node: Any, tensors: Mapping[str, Any]) -> Any:
    """As `decode`, but what was an array of NumPy's, or bytes, is a tensor: so its content is left where it is."""
    return decode(_with_tensors_alone(node), tensors)


def tensor_names(node: Any) -> set[str]:
    """The tensors that an encoded state refers to."""
    if isinstance(node, list):
        return set().union(*map(tensor_names, node))
    if not isinstance(node, Mapping):
        return set()
    if is_tensor(node):
        return set(node.values())
    return set().union(*map(tensor_names, node.values()))


def _with_tensors_alone(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_tensors_alone(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if is_tensor(node):
        return {"$tensor": next(iter(node.values()))}
    return {key: _with_tensors_alone(item) for key, item in node.items()}


def _is_rest(key: str, value: Any) -> bool:
    """Whether it has no place of its own in a general checkpoint, or would not come back from it as it was."""
    has_a_place = key in _NAMED or _is_optimizer(key, value)
    return not has_a_place or _with_tensors_alone(value) != value


def _names_of(named: Mapping[str, Any]) -> dict[str, Any]:
    groups = named["param_groups"]
    return {
        "class": named.get("class"),
        "params": [list(group["params"]) for group in groups],
        "param_names": any("param_names" in group for group in groups),
    }
