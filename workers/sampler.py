"""Which samples each rank sees next: an order fixed by (seed, epoch) and a position counted in global samples.

Batches are cut from the position, never from the rank or the world size. So a resume in the middle of an epoch, on
any number of ranks and loader workers, goes on with exactly the samples that are left, in as many steps as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from .errors import BadBatchSize


def cut(remaining: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Size of the next global batch when `remaining` samples of the epoch are left; 0: the epoch is over.

    A last batch of less than half the batch size would starve ranks (BatchNorm cannot train on one sample), so the
    last two batches then share evenly what is left. Hence no batch is larger than `batch_size`, none (in an epoch of
    at least half a batch) is smaller than half of it, and their number is `ceil(remaining / batch_size)`: nothing here
    depends on the world size, or a schedule over the steps would change with it.
    """
    if drop_last:
        return batch_size if remaining >= batch_size else 0
    rest = remaining - batch_size
    if 0 < 2 * rest < batch_size:
        return (remaining + 1) // 2
    return min(remaining, batch_size)


def smallest_batch(length: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Size of the smallest global batch of an epoch of `length` samples, cut from its start."""
    if drop_last or length % batch_size == 0:
        return batch_size
    tail = length % batch_size if length < batch_size else batch_size + length % batch_size
    first = cut(tail, batch_size)
    return min(first, tail - first) or first


def share(size: int, rank: int, world_size: int) -> slice:
    """The part of a global batch of `size` samples that is `rank`'s: contiguous, earlier ranks get one more."""
    each, extra = divmod(size, world_size)
    start = rank * each + min(rank, extra)
    return slice(start, start + each + (rank < extra))


def epoch_order(length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The permutation of an epoch.

    Sorted raw Philox words, because their values are fixed by the algorithm for good, where `permutation` and
    `randperm` may change between releases and would then reorder an epoch in the middle.
    """
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(length)
    return np.argsort(words, kind="stable")


class SampleIndex(int):
    """An index into the dataset that remembers its epoch, so that random augmentation can be replayed."""

    epoch: int

    def __new__(cls, index: int, epoch: int) -> Self:
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __reduce__(self) -> tuple[type[SampleIndex], tuple[int, int]]:
        # On its way to a loader worker; without this the epoch would be lost.
        return SampleIndex, (int(self), self.epoch)


class GlobalBatchSampler(Sampler[list[int]]):
    """A `batch_sampler` for DataLoader: this rank's share of every remaining global batch of the epoch.

    Iterating never moves the position, because a loader's prefetch runs ahead of the training. The loop does:
    `set_position(epoch, samples)` before each epoch, `samples += span(samples)` after each step.
    """

    def __init__(  # noqa: PLR0913 -- the six facts that fix which samples come next, all by name
        self,
        length: int,
        *,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        drop_last: bool = False,
        shuffle: bool = True,
    ) -> None:
        """`batch_size` is global: samples per step of all ranks together.

        Raises BadBatchSize when some rank would get no sample in some step, or one where its usual share is more.
        """
        self.length = length
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.drop_last = drop_last
        self.shuffle = shuffle
        self.epoch = 0
        self.samples = 0
        self._check()

    def set_position(self, epoch: int, samples: int) -> None:
        """Go on after `samples` global samples of `epoch`.

        Raises BadBatchSize when what is left of the epoch cannot be divided over the ranks: possible only when
        `train.batch_size` was changed in the middle of an epoch.
        """
        if not 0 <= samples <= self.length:
            raise BadBatchSize(
                f"position {samples} is outside an epoch of {self.length} samples: was the data changed?"
            )
        left = self.length - samples
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
        return cut(self.length - samples, self.batch_size, drop_last=self.drop_last)

    def weight(self, samples: int) -> float:
        """What this rank's mean loss counts for in the step after `samples` samples; the ranks' mean weight is 1.

        DDP gives every rank's gradient the same weight. Where a batch does not divide evenly, only a loss multiplied
        by this weight makes the averaged gradient the mean over the samples.
        """
        size = self.span(samples)
        mine = len(range(size)[share(size, self.rank, self.world_size)])
        return mine * self.world_size / size

    def __len__(self) -> int:
        """Global batches from the position to the end of the epoch."""
        left = self.length - self.samples
        return left // self.batch_size if self.drop_last else -(-left // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        # Not a generator itself: the position that counts is the one at the call, not at the first batch.
        return self._walk(self.epoch, self.samples)

    def _walk(self, epoch: int, samples: int) -> Iterator[list[int]]:
        order = _shuffled(self.length, self.seed, epoch) if self.shuffle else np.arange(self.length)
        while size := self.span(samples):
            mine = order[samples : samples + size][share(size, self.rank, self.world_size)]
            yield [SampleIndex(index, epoch) for index in mine.tolist()]
            samples += size

    def _check(self) -> None:
        who = f"train.batch_size={self.batch_size} (samples per step of all ranks together) on {self.world_size} ranks"
        if self.batch_size < self.world_size:
            raise BadBatchSize(
                f"{who} leaves ranks without a sample. Set it to at least {2 * self.world_size}, or use fewer ranks"
            )
        if not len(self):
            raise BadBatchSize(
                f"{who} gives no batch: the dataset has {self.length} samples and data.drop_last={self.drop_last}"
            )
        smallest = smallest_batch(self.length, self.batch_size, drop_last=self.drop_last)
        # One sample a rank is fine for those who chose it; as an accident of the last batch it breaks BatchNorm.
        if smallest < self.world_size * min(2, self.batch_size // self.world_size):
            raise BadBatchSize(
                f"{who} cuts {self.length} samples into batches down to {smallest}, too few for every rank. "
                f"Set data.drop_last=true, or train.batch_size to at least {4 * self.world_size}, or use fewer ranks"
            )


# One entry: every rank walks one epoch at a time, and a loader may ask for the same epoch again after a resume.
_shuffled = lru_cache(maxsize=1)(epoch_order)
