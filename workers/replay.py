"""Random augmentation that replays: what a sample looks like depends on (seed, epoch, index) and on nothing else.

Not on the loader worker that makes it, the order of the batch, the samples before it, or a restart in between.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .errors import BadTask
from .sampler import GlobalBatchSampler, SampleIndex
from .signals import outlive_notice

Sample = TypeVar("Sample")


class Replayable(Dataset[Sample]):
    """`dataset`, each sample made under generators of its own: Python's, NumPy's global one and torch's on the CPU.

    The generators' state is put back afterwards, so the process around it draws what it would have drawn anyway.
    Generators that a dataset makes for itself (`numpy.random.default_rng()` without a seed) and transforms that draw
    on a GPU are out of reach.
    """

    def __init__(self, dataset: Dataset[Sample], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # every map-style dataset has a length

    def __getitem__(self, index: int) -> Sample:
        with generators_kept():
            return self._make(index)

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """A whole batch, as DataLoader asks for it: seeding costs a few microseconds, keeping the state a hundred."""
        with generators_kept():
            return [self._make(index) for index in indices]

    def _make(self, index: int) -> Sample:
        epoch, draw = (index.epoch, index.draw) if isinstance(index, SampleIndex) else (0, 0)
        seed_generators(self.seed, epoch, int(index), draw)
        return self.dataset[index]


def seed_generators(seed: int, epoch: int, index: int, draw: int = 0) -> None:
    """Seed the three CPU generators from a hash, so that neighbouring samples get unrelated streams.

    `draw`: how often the sample came before in the epoch. Each time it is to look different.
    """
    words = (seed, epoch, index, draw) if draw else (seed, epoch, index)
    digest = hashlib.blake2b(struct.pack(f"<{len(words)}Q", *words), digest_size=8).digest()
    word = int.from_bytes(digest, "little")
    random.seed(word)
    np.random.seed(word & 0xFFFFFFFF)  # noqa: NPY002 -- the global generator is the one that transforms draw from
    # Not torch.manual_seed: it would reseed every GPU as well, at 100 times the price.
    torch.default_generator.manual_seed(word)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the three CPU generators back as they were, whatever the block draws, also when it raises."""
    python, torch_cpu = random.getstate(), torch.default_generator.get_state()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002 -- the global generator, see above
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 -- the global generator, see above
        torch.default_generator.set_state(torch_cpu)


def length_of(dataset: Dataset[Any]) -> int:
    """How many samples there are to index. Raises BadTask for data that can only be iterated."""
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise BadTask(
            f"train_data() is a {type(dataset).__name__}, which lacks a length or indices: its position is known to "
            "its loader alone. Return a map-style dataset, or write a script that gives relight.Checkpointer a loader "
            "with state_dict() and load_state_dict() (docs/data.md)"
        )
    return len(dataset)


def open_loader(
    dataset: Dataset[Any], sampler: GlobalBatchSampler, *, num_workers: int = 0, pin_memory: bool = False
) -> DataLoader[Any]:
    """The loader of the training data: replayable samples in the sampler's order.

    The loader draws its workers' seeds from a generator of its own. Left to itself it takes them from torch's global
    one at every `iter()`, so that dropout after a restart in mid-epoch would not be what it was.
    """
    return DataLoader(
        Replayable(dataset, sampler.seed),
        batch_sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        generator=torch.Generator(),
        worker_init_fn=outlive_notice,
    )
