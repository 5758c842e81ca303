"""What Lightning Fabric and Hugging Face Accelerate wrap around models, optimizers and loaders, taken off again.

Neither is imported: a wrapper is known by its name and the attributes that its users see. So names in a checkpoint are
those of the module that the user wrote, and a run may leave the framework, or come to it.
"""

from __future__ import annotations

import weakref
from typing import Any, Final, TypeVar, cast

from torch import nn
from torch.optim import Optimizer

from ..errors import NotCaptured

_FABRIC: Final = ("lightning_fabric.", "lightning.fabric.")
_ACCELERATE: Final = ("accelerate.",)

Part = TypeVar("Part")


class Passes:
    """How a framework's loader counts its passes, which it sets its sampler's epoch by. A plain loader does not."""

    def count(self, *, under_way: bool) -> int:  # noqa: ARG002 -- others need it
        """The number of the pass that is under way, or else of the next."""
        return 0

    def go_on(self, number: int) -> None:
        """The next pass has this number."""

    def turn(self) -> None:
        """A pass is over."""

    def ahead(self) -> int:
        """Batches that the loader was asked for and the loop has not been given."""
        return 0


class _FabricPasses(Passes):
    """Counted when a pass begins."""

    def __init__(self, loader: Any) -> None:
        self._loader: Any = weakref.proxy(loader)  # See Position. Who asks has a loop that holds it.

    def count(self, *, under_way: bool) -> int:
        return int(self._loader._num_iter_calls) - under_way  # noqa: SLF001 -- Fabric has no other name for it

    def go_on(self, number: int) -> None:
        self._loader._num_iter_calls = number  # noqa: SLF001 -- likewise


class _AcceleratePasses(Passes):
    """Counted when a pass is over, unless it was empty; and it looks one batch ahead, to know the last one."""

    def __init__(self, loader: Any) -> None:
        self._loader: Any = weakref.proxy(loader)  # See Position. Who asks has a loop that holds it.
        self._resumed: int | None = None

    def count(self, *, under_way: bool) -> int:  # noqa: ARG002 -- as it is
        return int(self._loader.iteration)

    def go_on(self, number: int) -> None:
        self._loader.iteration = self._resumed = number

    def turn(self) -> None:
        if self._resumed is not None and self._loader.iteration == self._resumed:
            self._loader.iteration += 1  # Nothing was left of it.
        self._resumed = None

    def ahead(self) -> int:
        return 0 if self._loader.end_of_dataloader else 1


def unwrapped_model(model: nn.Module) -> nn.Module:
    """What the framework calls: DDP around the user's module, or that itself."""
    if _is(model, _FABRIC, "_FabricModule"):
        return cast(nn.Module, model._forward_module)  # noqa: SLF001 -- Fabric has no public name for it
    inner = getattr(model, "_orig_mod", None)  # torch.compile's around Fabric's
    return unwrapped_model(inner) if isinstance(inner, nn.Module) and _is(inner, _FABRIC, "_FabricModule") else model


def unwrapped_optimizer(optimizer: Optimizer) -> Optimizer:
    """The one of torch that the user made."""
    wraps = _is(optimizer, _FABRIC, "_FabricOptimizer") or _is(optimizer, _ACCELERATE, "AcceleratedOptimizer")
    return cast(Optimizer, cast(Any, optimizer).optimizer) if wraps else optimizer


def scaler_of(optimizer: Any) -> Any:
    """The gradient scaler that a framework keeps for itself; None where there is none."""
    if _is(optimizer, _ACCELERATE, "AcceleratedOptimizer"):
        return optimizer.scaler
    if _is(optimizer, _FABRIC, "_FabricOptimizer"):
        precision = getattr(optimizer._strategy, "precision", None)  # noqa: SLF001 -- Fabric has no public name for it
        return getattr(precision, "scaler", None)
    return None


def unwrapped_loader(loader: Any) -> tuple[Any, Passes]:
    """The DataLoader that makes the batches, and how its wrapper counts.

    Raises:
        NotCaptured: one rank reads for all of them.
    """
    if _is(loader, _FABRIC, "_FabricDataLoader"):
        return loader._dataloader, _FabricPasses(loader)  # noqa: SLF001 -- Fabric has no public name for it
    if _is(loader, _ACCELERATE, "DataLoaderDispatcher"):
        message = (
            "the position in Accelerate's DataLoaderDispatcher, where one rank reads for all, cannot be saved. Use "
            "DataLoaderConfiguration(dispatch_batches=False), or pass no loader and start epochs anew on resume"
        )
        raise NotCaptured(message)
    if _is(loader, _ACCELERATE, "DataLoaderShard"):
        return loader.base_dataloader, _AcceleratePasses(loader)
    return loader, Passes()


def _is(thing: object, packages: tuple[str, ...], name: str) -> bool:
    return any(each.__name__ == name and each.__module__.startswith(packages) for each in type(thing).__mro__)
