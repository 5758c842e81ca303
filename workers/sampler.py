"""Which samples each rank sees next: an order fixed by (seed, epoch) and a position counted in global samples.

Batches are cut from the position, never from the rank or the world size. So a resume in the middle of an epoch, on
any number of ranks and loader workers, goes on with exactly the samples that are left, in as many steps as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from torch.utils.data import Sampler

from .cutting import count, cut, micro_batches, pieces, smallest_batch
from .errors import BadBatchSize, BadOrder
from .order import SHUFFLED, Facts, Indices, Order


class SampleIndex(int):
    """An index into the dataset that remembers its epoch, so that random augmentation can be replayed.

    `draw` counts how often the sample came before in the epoch, for an order with replacement.
    """

    epoch: int
    draw: int

    def __new__(cls, index: int, epoch: int, draw: int = 0) -> Self:
        self = super().__new__(cls, index)
        self.epoch = epoch
        self.draw = draw
        return self

    def __reduce__(self) -> tuple[type[SampleIndex], tuple[int, int, int]]:
        # On its way to a loader worker; without this all but the index would be lost.
        return SampleIndex, (int(self), self.epoch, self.draw)


class GlobalBatchSampler(Sampler[list[int]]):
    """A `batch_sampler` for DataLoader: this rank's share of every remaining global batch of the epoch.

    With `max_per_rank` a share comes as several micro-batches where it is larger than that: `accumulation.steps` puts
    them together to one step, whose gradient is the mean over the global batch whatever the number of ranks.

    Iterating never moves the position, because a loader's prefetch runs ahead of the training. The loop does:
    `set_position(epoch, samples)` before each epoch, `samples += span(samples)` after each step.
    """

    def __init__(  # noqa: PLR0913 -- the facts that fix which samples come next, all by name
        self,
        length: int,
        *,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        drop_last: bool = False,
        order: Order = SHUFFLED,
        max_per_rank: int | None = None,
    ) -> None:
        """`length`: of the dataset. `batch_size` is global: samples per step of all ranks together.

        Raises:
            BadBatchSize: some rank would get no sample in some step, or one where its usual share is more.
            BadOrder: the order is none of a dataset of this length.
        """
        self.length = length
        self.total = order.samples(length)
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.drop_last = drop_last
        self.order = order
        self.max_per_rank = max_per_rank
        self.epoch = 0
        self.samples = 0
        self.in_steps = False
        """Whether its batches are put together to steps, as they have to be with `max_per_rank`."""
        self._laid: tuple[int, Indices, Indices] | None = None
        self._check()

    def set_position(self, epoch: int, samples: int) -> None:
        """Go on after `samples` global samples of `epoch`.

        Raises BadBatchSize when what is left of the epoch cannot be divided over the ranks: possible only when
        `train.batch_size` was changed in the middle of an epoch.
        """
        if not 0 <= samples <= self.total:
            raise BadBatchSize(f"position {samples} is outside an epoch of {self.total} samples: was the data changed?")
        left = self.total - samples
        smallest = smallest_batch(left, self.batch_size, drop_last=self.drop_last)
        if left and smallest < self.world_size:
            raise BadBatchSize(
                f"{left} samples are left in epoch {epoch}, and cut by the new train.batch_size={self.batch_size} they "
                f"give a batch of {smallest} for {self.world_size} ranks. Finish the epoch with the old "
                f"train.batch_size, or with at most {smallest} ranks"
            )
        self.epoch, self.samples = epoch, samples

    def span(self, samples: int) -> int:
        """Size of the global batch that starts after `samples` samples of the epoch; 0: the epoch is over."""
        return cut(self.total - samples, self.batch_size, drop_last=self.drop_last)

    def weights(self, samples: int) -> list[float]:
        """What the mean loss of each of this rank's micro-batches counts for in the step after `samples` samples.

        DDP and FSDP give every rank's gradient the same weight, and backward passes add up. Only losses multiplied by
        these weights, which over all ranks have a sum of `world_size`, make that the mean over the global batch.
        """
        size = self.span(samples)
        return [(part.stop - part.start) * self.world_size / size for part in self._pieces(size)]

    @property
    def steps_left(self) -> int:
        """Global batches from the position to the end of the epoch, whatever the world size."""
        return count(self.total - self.samples, self.batch_size, drop_last=self.drop_last)

    def __len__(self) -> int:
        """What iterating gives: micro-batches from the position to the end of the epoch."""
        whole = max(0, self.steps_left - 2)
        last = self.samples + whole * self.batch_size
        sizes = [self.span(last), self.span(last + self.span(last))]  # The only ones that may not be full, or not be.
        return whole * self._micro_batches(self.batch_size) + sum(self._micro_batches(size) for size in sizes if size)

    def __iter__(self) -> Iterator[list[int]]:
        # Not a generator itself: the position that counts is the one at the call, not at the first batch.
        return self._walk(self.epoch, self.samples)

    def facts(self) -> Facts:
        """What the order of the samples depends on: a position means nothing in another order."""
        return {"order": type(self.order).__name__, **self.order.facts(), "length": self.length, "seed": self.seed}

    def _walk(self, epoch: int, samples: int) -> Iterator[list[int]]:
        indices, draws = self._lay(epoch)
        while size := self.span(samples):
            for part in self._pieces(size):
                first, end = samples + part.start, samples + part.stop
                if first == end:
                    first -= 1  # Nothing is left for it: it repeats the sample before, at no weight, to stay in step.
                drawn = zip(indices[first:end].tolist(), draws[first:end].tolist(), strict=True)
                yield [SampleIndex(index, epoch, draw) for index, draw in drawn]
            samples += size

    def _pieces(self, size: int) -> list[slice]:
        return pieces(size, self.rank, self.world_size, self.max_per_rank)

    def _micro_batches(self, size: int) -> int:
        return micro_batches(size, self.world_size, self.max_per_rank)

    def _lay(self, epoch: int) -> tuple[Indices, Indices]:
        """The epoch's indices, and how often each sample came before. Kept: after a resume a loader asks once more."""
        if self._laid is None or self._laid[0] != epoch:
            indices = self.order.indices(self.length, self.seed, epoch)
            _check_indices(indices, self.total, self.length, self.order)
            self._laid = epoch, indices, _draws(indices, self.length)
        return self._laid[1:]

    def _check(self) -> None:
        who = f"train.batch_size={self.batch_size} (samples per step of all ranks together) on {self.world_size} ranks"
        if self.batch_size < self.world_size:
            raise BadBatchSize(
                f"{who} leaves ranks without a sample. Set it to at least {2 * self.world_size}, or use fewer ranks"
            )
        if not self.steps_left:
            raise BadBatchSize(
                f"{who} gives no batch: an epoch has {self.total} samples and data.drop_last={self.drop_last}"
            )
        smallest = smallest_batch(self.total, self.batch_size, drop_last=self.drop_last)
        # One sample a rank is fine for those who chose it; as an accident of the last batch it breaks BatchNorm.
        if smallest < self.world_size * min(2, self.batch_size // self.world_size, self.max_per_rank or 2):
            raise BadBatchSize(
                f"{who} cuts {self.total} samples into batches down to {smallest}, too few for every rank. "
                f"Set data.drop_last=true, or train.batch_size to at least {4 * self.world_size}, or use fewer ranks"
            )


def sampler_of(loader: Any) -> GlobalBatchSampler | None:
    """The one that a loader takes its batches from, or that it is; None when there is none."""
    candidates = (loader, getattr(loader, "batch_sampler", None))
    return next((it for it in candidates if isinstance(it, GlobalBatchSampler)), None)


def _check_indices(indices: Indices, total: int, length: int, order: Order) -> None:
    """An order of the user's own may be wrong; a wrong one would leave samples out, and nobody would know."""
    if indices.shape != (total,) or not 0 <= indices.min() <= indices.max() < length:
        raise BadOrder(
            f"{type(order).__name__}.indices() must return {total} indices below {length}; it returned an array of "
            f"shape {list(indices.shape)} from {indices.min()} to {indices.max()}"
        )


def _draws(indices: Indices, length: int) -> Indices:
    """How often each sample came before."""
    draws = np.zeros_like(indices)
    if np.bincount(indices, minlength=length).max() > 1:
        by_sample = np.argsort(indices, kind="stable")
        begins = np.flatnonzero(np.diff(indices[by_sample], prepend=-1))
        draws[by_sample] = np.arange(len(indices)) - np.repeat(begins, np.diff(begins, append=len(indices)))
    return draws
