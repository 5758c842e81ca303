"""How an epoch is cut into global batches, those into the ranks' shares, and these into micro-batches. Arithmetic.

Global batches depend on the position alone, never on the world: a schedule over the steps would change with it.
"""

from __future__ import annotations


def cut(remaining: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Size of the next global batch when `remaining` samples of the epoch are left; 0: the epoch is over.

    A last batch of less than half the batch size would starve ranks (BatchNorm cannot train on one sample), so the
    last two batches then share evenly what is left. Hence no batch is larger than `batch_size`, none (in an epoch of
    at least half a batch) is smaller than half of it, and their number is `ceil(remaining / batch_size)`.
    """
    if drop_last:
        return batch_size if remaining >= batch_size else 0
    rest = remaining - batch_size
    if 0 < 2 * rest < batch_size:
        return (remaining + 1) // 2
    return min(remaining, batch_size)


def count(remaining: int, batch_size: int, *, drop_last: bool = False) -> int:
    """How many global batches are left."""
    return remaining // batch_size if drop_last else -(-remaining // batch_size)


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


def micro_batches(size: int, world_size: int, max_per_rank: int | None) -> int:
    """Into how many micro-batches every rank cuts its share of a global batch of `size` samples.

    As many on all ranks, though the shares may differ by one: under FSDP each of them is a round of collectives.
    """
    if max_per_rank is None:
        return 1
    largest = -(-size // world_size)
    return -(-largest // max_per_rank)


def pieces(size: int, rank: int, world_size: int, max_per_rank: int | None) -> list[slice]:
    """The rank's micro-batches, as parts of the global batch, none above `max_per_rank`; they differ by at most one.

    With `max_per_rank` 1 a rank with one sample less than others has an empty one, its last.
    """
    mine = share(size, rank, world_size)
    number = micro_batches(size, world_size, max_per_rank)
    parts = (share(mine.stop - mine.start, part, number) for part in range(number))
    return [slice(mine.start + part.start, mine.start + part.stop) for part in parts]
