"""Names for an optimizer's numbered parameters, proven by the shapes of what it keeps for each. Pure.

`Optimizer.state_dict` numbers the parameters through all groups: which one a number means is said by `param_names`,
where the optimizer was given names, and else only by the order in which the model has them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from ...errors import NotImported

Shape = tuple[int, ...]
Numbers = list[list[Any]]
"""What stands for each group's parameters: numbers, or names."""

_SHAPED: Final = frozenset(
    {
        "acc_delta",
        "ax",
        "exp_avg",
        "exp_avg_sq",
        "exp_inf",
        "grad_avg",
        "max_exp_avg_sq",
        "momentum_buffer",
        "prev",
        "square_avg",
        "step_size",
        "sum",
    }
)
"""What torch's optimizers keep in the shape of the parameter."""

_WAYS_OUT: Final = (
    "Name the model, --model MODULE:CALLABLE, if its parameters have another order than its state dict; save with an "
    "optimizer that was given model.named_parameters(), which keeps the names; or leave it out: --without"
)


@dataclass(frozen=True, slots=True)
class Model:
    """The shapes of all its tensors by name, and those of them that are parameters, in its order."""

    shapes: Mapping[str, Shape]
    parameters: Sequence[str]


def names_of(
    document: Mapping[str, Any], model: Model, plain: Callable[[str], str], part: str
) -> tuple[dict[Any, str], str]:
    """The name for everything that stands for a parameter in an optimizer's state dict; and how it was found.

    `plain` takes a wrapper's part off a name. `part` is the optimizer's own name, for messages.

    Raises:
        NotImported: it cannot be known which is which.
    """
    groups: Numbers = [list(group["params"]) for group in document["param_groups"]]
    shapes = {number: _shape(entries) for number, entries in document["state"].items()}
    if all(isinstance(each, str) for group in groups for each in group):
        names, how = {each: plain(each) for group in groups for each in group}, "by its own names"
    elif all(len(group.get("param_names", ())) == len(group["params"]) for group in document["param_groups"]):
        names, how = _paired(document["param_groups"], plain), "by the param_names in it"
    else:
        names, how = _by_order(groups, shapes, model, part), "by the order of the model's parameters"
    _refuse_misfit(names, shapes, model.shapes, part)
    return names, how


def _paired(groups: Sequence[Mapping[str, Any]], plain: Callable[[str], str]) -> dict[Any, str]:
    return {
        number: plain(name)
        for group in groups
        for number, name in zip(group["params"], group["param_names"], strict=True)
    }


def _by_order(groups: Numbers, shapes: Mapping[Any, Shape | None], model: Model, part: str) -> dict[Any, str]:
    numbers = [number for group in groups for number in group]
    if len(numbers) != len(model.parameters):
        raise NotImported(
            f"the {part} numbers {len(numbers)} parameters and the model has {len(model.parameters)}, so it cannot be "
            f"known which is which. {_WAYS_OUT} {part}"
        )
    in_order = dict(zip(numbers, model.parameters, strict=True))
    wrong = [number for number in numbers if shapes.get(number) not in (None, model.shapes[in_order[number]])]
    if not wrong:
        return in_order
    if (apart := _by_group(groups, shapes, model)) is not None:
        return apart
    number, name = wrong[0], in_order[wrong[0]]
    raise NotImported(
        f"the {part} keeps {list(shapes[number] or ())} for its parameter {number}, and in the model's order that is "
        f"{name} of shape {list(model.shapes[name])}: it cannot be known which is which. {_WAYS_OUT} {part}"
    )


def _by_group(groups: Numbers, shapes: Mapping[Any, Shape | None], model: Model) -> dict[Any, str] | None:
    """Where another order can be told by shapes alone: each shape is one parameter's, or one group's alone, as when
    groups take the parameters apart by kind (weights with decay, biases without), each in the model's order.
    """
    numbers: dict[Shape | None, list[Any]] = defaultdict(list)
    homes: dict[Shape | None, set[int]] = defaultdict(set)
    for index, group in enumerate(groups):
        for number in group:
            numbers[shapes.get(number)].append(number)
            homes[shapes.get(number)].add(index)
    names: dict[Shape | None, list[str]] = defaultdict(list)
    for name in model.parameters:
        names[model.shapes[name]].append(name)
    if {shape: len(found) for shape, found in numbers.items()} != {shape: len(found) for shape, found in names.items()}:
        return None
    if any(len(names[shape]) > 1 and (len(home) > 1 or len(groups) == 1) for shape, home in homes.items()):
        return None
    return {number: name for shape, found in numbers.items() for number, name in zip(found, names[shape], strict=True)}


def _refuse_misfit(
    names: Mapping[Any, str], shapes: Mapping[Any, Shape | None], model: Mapping[str, Shape], part: str
) -> None:
    """What is named may be wrong as well: it may belong to another model."""
    if nameless := [number for number in shapes if number not in names]:
        raise NotImported(f"the {part} has state of {nameless[0]!r}, which is in none of its groups: it is not whole")
    if len(set(names.values())) < len(names):
        raise NotImported(
            f"the {part} gives two of its parameters one name: it is not whole. Leave it out: --without {part}"
        )
    for number, name in names.items():
        if name not in model:
            raise NotImported(
                f"the {part} is of a parameter {name}, which is not in the model. Leave it out: --without {part}"
            )
        shape = shapes.get(number)
        if shape is not None and shape != model[name]:
            raise NotImported(
                f"the {part} keeps {list(shape)} for {name}, which has shape {list(model[name])}: it is of another "
                f"model. Leave it out: --without {part}"
            )


def _shape(entries: Mapping[str, Any]) -> Shape | None:
    """A parameter's shape, by what is kept for it; None where that does not say."""
    return next(
        (tuple(it.shape) for key, it in entries.items() if key in _SHAPED and isinstance(it, torch.Tensor)), None
    )
