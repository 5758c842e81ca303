"""What is written of a whole model: a module that the user's own code makes, with the checkpoint's tensors in it."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import NotExported
from ...recipe import Recipe
from . import content
from .blanks import Blanks
from .building import Make, build, fill, maker
from .formats import Wishes
from .source import Plan, Source
from .torch_file import NotPickled, TorchFile


def whole_model(source: Source, wishes: Wishes) -> Plan:
    entries = source.one_model(wishes.only)
    recipe = Recipe.read(source.own_state(0))
    make = maker(wishes.model, recipe, source.title)
    names = content.tensor_names(entries)
    blanks = Blanks(source.pieces(names))
    state = content.decode_plain(entries, blanks.tensors)
    file = pickled_model(make, recipe.train.seed if recipe else 0, state, source.title)
    return Plan(names, lambda path: file.write(path, blanks, source.chunks))


def pickled_model(make: Make, seed: int, state: dict[str, Any], what: str) -> TorchFile:
    """The model, filled with `state`, ready to be written.

    It is made without memory first. Where its code cannot do that, or makes tensors that no state dict holds (a mask, a
    table of positions), it is made once more with memory: these are then as the code makes them.

    Raises NotExported.
    """
    try:
        return _pickled(build(make, seed, without_memory=True), state, what)
    except NotExported:
        raise
    except Exception:  # noqa: BLE001 -- whatever code raises that needs values; if it is a bug it comes again
        return _pickled(build(make, seed, without_memory=False), state, what)


def _pickled(model: nn.Module, state: dict[str, Any], what: str) -> TorchFile:
    fill(model, state, what)
    try:
        return TorchFile(model)
    except NotPickled as error:
        raise NotExported(
            f"the {type(model).__qualname__} cannot be pickled: {error}. "
            "Export its weights alone: --format state-dict, or safetensors"
        ) from None
