"""A plain DataLoader that asks a position which batches come next, and tells it what it has given out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, cast

from torch.utils.data import DataLoader, Sampler, get_worker_info

from ..errors import NotCaptured
from ..replay import seed_generators
from ..signals import outlive_notice


class Walked(Protocol):
    """What a watched loader needs of a position."""

    @property
    def skipped(self) -> int:
        """Batches that a pass leaves out at its beginning."""

    def walk(self) -> Iterator[Any]:
        """The batches of indices of a pass."""

    def give(self) -> None:
        """The loop gets one more batch."""


class SeededBatch(list[Any]):
    """Indices for a loader worker, which seeds its generators when it begins with them.

    So random augmentation is that of the batch, whichever worker makes it and whatever it has made before: behind a
    resume another worker does.
    """

    def __init__(self, indices: Sequence[Any], seed: int, number: int, batch: int) -> None:
        super().__init__(indices)
        self._words = seed, number, batch

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            seed_generators(*self._words)
        return super().__iter__()

    def __reduce__(self) -> tuple[type[SeededBatch], tuple[Any, ...]]:
        return SeededBatch, (self[:], *self._words)


class Watched(Sampler[Any]):
    """Stands before a loader's own sampler, and is otherwise like it."""

    def __init__(self, inner: Any, position: Walked) -> None:
        self.inner = inner
        self.position = position

    def __iter__(self) -> Iterator[Any]:
        return self.position.walk()

    def __len__(self) -> int:
        return max(0, len(self.inner) - self.position.skipped)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # Not there yet: it is being copied.
            raise AttributeError(name)
        return getattr(self.inner, name)


class _Counted:
    """An iterator of a loader that says what it gives."""

    def __init__(self, batches: Iterator[Any], position: Walked) -> None:
        self._batches = batches
        self._position = position

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> Any:
        batch = next(self._batches)
        self._position.give()
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


def watch(loader: DataLoader[Any], position: Walked) -> Watched:
    """Have `position` asked and told, in place of the loader's own sampler.

    Raises:
        NotCaptured: the loader has workers already, which would not hear of it.
    """
    role = "sampler" if loader.batch_sampler is None else "batch_sampler"
    present = getattr(loader, role)
    if isinstance(present, Watched):  # An earlier Checkpointer's: a cell of a notebook that is run again.
        present.position = position
        return present
    if getattr(loader, "_iterator", None) is not None:
        message = (
            "the loader has been iterated, and its persistent workers would go on in their own order: make the "
            "Checkpointer before the first look at the loader"
        )
        raise NotCaptured(message)
    watched = Watched(present, position)
    # Past DataLoader.__setattr__, which refuses it: an iterator that is under way would not hear of the change.
    loader.__dict__[role] = watched
    loader.worker_init_fn = partial(_begin_worker, loader.worker_init_fn)
    loader.__class__ = _counting(type(loader))  # `for` finds __iter__ on the class alone.
    return watched


def _begin_worker(own: Callable[[int], object] | None, number: int) -> None:
    """What the script does at the start of a loader worker, which a notice to all processes must not end."""
    outlive_notice(number)
    if own is not None:
        own(number)


def _counting(kind: type[DataLoader[Any]]) -> type[DataLoader[Any]]:
    """A class of loaders that are watched, and otherwise of this kind."""

    def __iter__(self: DataLoader[Any]) -> Any:  # noqa: N807 -- the method's name
        watched = self.batch_sampler if isinstance(self.batch_sampler, Watched) else self.sampler
        return _Counted(kind.__iter__(self), cast(Watched, watched).position)

    attributes = {"__iter__": __iter__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), attributes)
