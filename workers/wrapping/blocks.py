"""Which modules of a model are sharded one by one, so that only one of them is whole at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

_CONTAINERS = (nn.ModuleList, nn.Sequential)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The entries of the outermost ModuleLists and Sequentials, those nested directly in them included.

    Not among them: entries without parameters, and those that share a parameter with the rest of the model.
    """
    found = dict.fromkeys(_entries(model) if isinstance(model, _CONTAINERS) else _below(model))
    return [block for block in found if next(block.parameters(), None) is not None and not shared(model, block)]


def shared(model: nn.Module, block: nn.Module) -> list[str]:
    """The names within `block` of parameters that belong to another module of the model as well."""
    inside = set(block.modules())
    others = {
        parameter
        for module in model.modules()
        if module not in inside
        for parameter in module.parameters(recurse=False)
    }
    return [name for name, parameter in block.named_parameters() if parameter in others]


def innermost_first(model: nn.Module, chosen: Iterable[nn.Module]) -> list[nn.Module]:
    """The order in which they have to be sharded; the model itself, which comes last in any case, is left out."""
    wanted = set(chosen) - {model}
    return [module for module in reversed(list(model.modules())) if module in wanted]


def _below(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from _entries(child) if isinstance(child, _CONTAINERS) else _below(child)


def _entries(container: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for entry in container:
        if isinstance(entry, _CONTAINERS):
            yield from _entries(entry)
        else:
            yield entry
