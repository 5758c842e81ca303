"""The module whose weights are exported: made by the user's own code, without memory where that can be done."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...checkpoint import rng
from ...checkpoint.names import clean, plain
from ...errors import NotExported
from ...recipe import Recipe
from ...seeding import seed_everything

Make = Callable[[], nn.Module]
_SHOWN = 5


def maker(spec: str | None, recipe: Recipe | None, what: str) -> Make:
    """What makes the model: MODULE:CALLABLE where it is given, else the task that the checkpoint was trained by.

    Raises NotExported when neither says how; `what` is the checkpoint.
    """
    if spec is not None:
        return _calling(spec)
    if recipe is None:
        raise NotExported(
            f"{what} does not say how its model is made (a script has trained it, or an older Relight): name what "
            "makes it with --model MODULE:CALLABLE, for example --model torchvision.models:vgg16"
        )
    return recipe.model


def build(make: Make, seed: int, *, without_memory: bool) -> nn.Module:
    """The model, plain. `without_memory`: on the meta device, as far as its code takes part in that.

    Raises NotExported when it makes no module; an error in its own code keeps its traceback.
    """
    generators = rng.capture()
    seed_everything(seed, 0)  # As a run does: what is random in it and in no state dict is then the same.
    try:
        made = _on_meta(make) if without_memory else make()
    finally:
        rng.restore(generators)
    if not isinstance(made, nn.Module):
        raise NotExported(f"--model has made a {type(made).__qualname__}, which is no torch.nn.Module")
    return plain(made)


def _on_meta(make: Make) -> nn.Module:
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # That weights copied to where no memory is are lost: they are replaced.
        return make()


def fill(model: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Give the model these tensors themselves; those that it ties stay tied.

    Raises NotExported naming what does not fit.
    """
    own = model.state_dict(keep_vars=True)
    names = {name: clean(name) for name in own}
    problems = [f"{name}: in the checkpoint, not in the model" for name in state.keys() - set(names.values())]
    problems += [f"{name}: in the model, not in the checkpoint" for name in set(names.values()) - state.keys()]
    problems += [
        f"{name}: shape {list(state[name].shape)} in the checkpoint, {list(tensor.shape)} in the model"
        for raw, name in names.items()
        if isinstance(tensor := own[raw], torch.Tensor) and name in state and state[name].shape != tensor.shape
    ]
    if problems:
        more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = "\n  ".join([*sorted(problems)[:_SHOWN], *more])
        raise NotExported(f"{what} does not fit the model that --model or its task makes:\n  {lines}")
    ties: dict[int, Any] = {}
    given = {raw: ties.setdefault(id(own[raw]), _as(own[raw], state[name])) for raw, name in names.items()}
    model.load_state_dict(given, assign=True)


def _as(own: Any, given: Any) -> Any:
    """A parameter where the model has one: tied ones are then the same object, which `assign` keeps."""
    return nn.Parameter(given, requires_grad=own.requires_grad) if isinstance(own, nn.Parameter) else given


def _calling(spec: str) -> Make:
    module_name, colon, path = spec.partition(":")
    if not (module_name and colon and path):
        raise NotExported(f"--model {spec}: expected MODULE:CALLABLE, for example torchvision.models:vgg16")
    here = str(Path.cwd())
    if here not in sys.path:  # As `python -m` does.
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise NotExported(f"--model {spec}: there is no module {error.name}, neither installed nor in {here}") from None
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise NotExported(f"--model {spec}: {module_name} has no {path} that could be called")
    make: Make = found
    return make
