"""In which order an epoch goes through the data: a pure function of the dataset's length, the seed and the epoch.

So every rank knows the same order without asking anybody, in every life of a run and in a world of any size, and a
number of samples is a position in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, Union

import numpy as np
import numpy.typing as npt

from .errors import BadOrder

if TYPE_CHECKING:
    from torch import Tensor

Indices = npt.NDArray[np.int64]
Facts = Mapping[str, str | int | float | bool]
Numbers = Union[Sequence[float], npt.NDArray[Any], "Tensor"]

_LN2: Final = 0.6931471805599453
_HALF_ROOT: Final = 0.7071067811865476


class Order(Protocol):
    """The order of every epoch. It has to answer alike on all ranks and machines, and in all lives of a run."""

    def samples(self, length: int) -> int:
        """Samples in an epoch over a dataset of `length`. Raises BadOrder when it is no order of such a dataset."""

    def indices(self, length: int, seed: int, epoch: int) -> Indices:
        """`samples(length)` indices into the dataset: shape `[samples]`, int64."""

    def facts(self) -> Facts:
        """What `indices` depends on besides its arguments, with the order's name as `order`.

        A checkpoint keeps them, and a run in the middle of one order does not go on in another. Digests of what is
        large (`digest_of`).
        """


class ShuffledOrder:
    """Every sample once, each epoch in another random order."""

    def samples(self, length: int) -> int:
        return length

    def indices(self, length: int, seed: int, epoch: int) -> Indices:
        return epoch_order(length, seed, epoch)

    def facts(self) -> Facts:
        return {"order": "shuffled"}


class SequentialOrder:
    """Every sample once, as the dataset has them."""

    def samples(self, length: int) -> int:
        return length

    def indices(self, length: int, seed: int, epoch: int) -> Indices:  # noqa: ARG002 -- all epochs are alike
        return np.arange(length)

    def facts(self) -> Facts:
        return {"order": "sequential"}


class WeightedOrder:
    """Samples drawn at random, in proportion to their weights.

    With replacement an epoch is `samples` independent draws: a sample comes as often as it is drawn, and what a resume
    keeps exactly is the draws, each of them used once. Without, no sample comes twice in an epoch: heavy ones tend to
    come early, and where `samples` is less than the number of weights above 0, light ones are left out.
    """

    def __init__(self, weights: Numbers, *, samples: int | None = None, replacement: bool = True) -> None:
        """`weights`: one for each sample of the dataset, not below 0. `samples`: in an epoch; unless given, as many as
        there are weights, or without replacement as many as are above 0.

        Raises BadOrder.
        """
        self._weights = _numbers(weights, "weights")
        self._replacement = replacement
        above_0 = int((self._weights > 0).sum())
        if not above_0 or (self._weights < 0).any():
            raise BadOrder("weights may not be below 0, and some of them must be above")
        with np.errstate(over="ignore"):
            sums = np.cumsum(self._weights)
        if not np.isfinite(sums[-1]):
            raise BadOrder("the sum of the weights is too large for a float: divide them all by the largest")
        self._samples = samples or (len(self._weights) if replacement else above_0)
        if not replacement and self._samples > above_0:
            raise BadOrder(
                f"{self._samples} samples cannot be drawn without replacement from {above_0} with a weight above 0"
            )

    def samples(self, length: int) -> int:
        _check_length(len(self._weights), length, "weights")
        return self._samples

    def indices(self, length: int, seed: int, epoch: int) -> Indices:
        return self._drawn(seed, epoch) if self._replacement else self._without_replacement(length, seed, epoch)

    def facts(self) -> Facts:
        return {
            "order": "weighted",
            "samples": self._samples,
            "replacement": self._replacement,
            "weights": digest_of(self._weights),
        }

    def _drawn(self, seed: int, epoch: int) -> Indices:
        sums = np.cumsum(self._weights)  # Added up one by one: the same sums on every machine.
        found = np.searchsorted(sums, _uniform(_words(seed, epoch, self._samples)) * sums[-1], side="right")
        drawn: Indices = np.minimum(found, np.flatnonzero(self._weights)[-1])
        return drawn

    def _without_replacement(self, length: int, seed: int, epoch: int) -> Indices:
        """Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006: exponential arrival times."""
        candidates = np.flatnonzero(self._weights)
        uniform = _uniform(_words(seed, epoch, length))[candidates]
        with np.errstate(over="ignore"):  # A weight next to nothing arrives after everything.
            arrivals = -_log(uniform) / self._weights[candidates]
        drawn: Indices = candidates[np.argsort(arrivals, kind="stable")[: self._samples]]
        return drawn


class BucketedOrder:
    """Every sample once, neighbours of similar length: less padding, as random as that allows.

    Each epoch is shuffled, `pool` groups at a time are sorted by length and cut into groups again, and the groups are
    shuffled. What is left over at the end of the epoch, less than a group, is of all lengths.
    """

    def __init__(self, lengths: Numbers, *, group: int, pool: int = 50) -> None:
        """`lengths`: one for each sample of the dataset, in any unit. `group`: samples of similar length in a row; the
        global batch size is a good choice. Raises BadOrder.
        """
        self._lengths = _numbers(lengths, "lengths")
        if group < 1 or pool < 1:
            raise BadOrder(f"group={group} and pool={pool} must be at least 1")
        self._group = group
        self._pool = pool

    def samples(self, length: int) -> int:
        _check_length(len(self._lengths), length, "lengths")
        return length

    def indices(self, length: int, seed: int, epoch: int) -> Indices:
        groups = length // self._group
        words = _words(seed, epoch, length + groups)
        shuffled = np.argsort(words[:length], kind="stable")
        grouped, rest = np.split(shuffled, [groups * self._group])
        pools = np.arange(len(grouped)) // (self._pool * self._group)
        alike = grouped[np.lexsort((self._lengths[grouped], pools))].reshape(groups, self._group)
        turns = np.argsort(words[length:], kind="stable")
        return np.concatenate([alike[turns].reshape(-1), rest])

    def facts(self) -> Facts:
        return {"order": "bucketed", "group": self._group, "pool": self._pool, "lengths": digest_of(self._lengths)}


SHUFFLED: Final = ShuffledOrder()


def epoch_order(length: int, seed: int, epoch: int) -> Indices:
    """The permutation of an epoch.

    Sorted raw Philox words, because their values are fixed by the algorithm for good, where `permutation` and
    `randperm` may change between releases and would then reorder an epoch in the middle.
    """
    return np.argsort(_words(seed, epoch, length), kind="stable")


def digest_of(values: npt.NDArray[Any]) -> str:
    """A few characters that tell arrays apart, for an order's facts."""
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=8).hexdigest()


def _words(seed: int, epoch: int, count: int) -> npt.NDArray[np.uint64]:
    return np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(count)


def _uniform(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Above 0, up to 1."""
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _log(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Natural logarithms, out of operations of which IEEE 754 fixes every bit.

    `np.log` may differ in the last bit between processors, and two hosts would then disagree about the order.
    """
    mantissa, exponent = np.frexp(values)
    below = mantissa < _HALF_ROOT
    mantissa, exponent = np.where(below, 2 * mantissa, mantissa), exponent - below
    ratio = (mantissa - 1) / (mantissa + 1)
    square, series = ratio * ratio, np.zeros_like(ratio)
    for odd in range(21, 0, -2):  # log m = 2 (r + r^3/3 + r^5/5 + ...), |r| < 0.172
        series = series * square + 1 / odd
    logarithms: npt.NDArray[np.float64] = 2 * ratio * series + exponent * _LN2
    return logarithms


def _numbers(values: Numbers, what: str) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, dtype="<f8")
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise BadOrder(f"{what} must be one finite number for each sample; they have shape {list(numbers.shape)}")
    return numbers


def _check_length(given: int, length: int, what: str) -> None:
    if given != length:
        raise BadOrder(f"there are {given} {what} for a dataset of {length} samples: give one for each")
