"""The orders of an epoch: each a pure function of seed and epoch, and what each of them promises of its samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relight.workers.checkpoint.parts import DataOrder
from relight.workers.errors import BadOrder
from relight.workers.order import (
    BucketedOrder,
    Facts,
    Indices,
    Order,
    SequentialOrder,
    ShuffledOrder,
    WeightedOrder,
    _log,
    epoch_order,
)
from relight.workers.replay import Replayable
from relight.workers.sampler import GlobalBatchSampler, SampleIndex

LENGTH = 40
RISING = [float(index + 1) for index in range(LENGTH)]

ORDERS: dict[str, Callable[[], Order]] = {
    "shuffled": ShuffledOrder,
    "sequential": SequentialOrder,
    "weighted": lambda: WeightedOrder(RISING),
    "weighted once": lambda: WeightedOrder(RISING, replacement=False),
    "bucketed": lambda: BucketedOrder(RISING, group=8, pool=2),
}
ONCE = [name for name in ORDERS if name != "weighted"]


def sampler(order: Order, *, length: int = LENGTH, batch_size: int = 8, **others: Any) -> GlobalBatchSampler:
    place = {"rank": 0, "world_size": 1, "seed": 3}
    return GlobalBatchSampler(length, batch_size=batch_size, order=order, **{**place, **others})


def test_the_orders_are_fixed_for_good() -> None:
    """If this fails, runs that were interrupted by an older version would repeat and skip samples."""
    weights = [1, 5, 0, 2, 2, 1]
    assert epoch_order(10, 0, 0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert SequentialOrder().indices(3, 0, 0).tolist() == [0, 1, 2]
    assert WeightedOrder(weights, samples=9).indices(6, 0, 0).tolist() == [0, 1, 1, 3, 1, 1, 5, 5, 1]
    assert WeightedOrder(weights, replacement=False).indices(6, 0, 0).tolist() == [1, 3, 4, 5, 0]
    assert BucketedOrder(weights, group=2, pool=2).indices(6, 0, 0).tolist() == [4, 3, 2, 0, 5, 1]


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_a_function_of_seed_and_epoch(name: str) -> None:
    """What was asked before, and of which object, plays no part."""
    one, other = ORDERS[name](), ORDERS[name]()
    one.indices(LENGTH, 9, 9)
    assert one.indices(LENGTH, 1, 2).tolist() == other.indices(LENGTH, 1, 2).tolist()
    alike = [other.indices(LENGTH, *at).tolist() == one.indices(LENGTH, 1, 2).tolist() for at in ((1, 3), (2, 2))]
    assert alike == [name == "sequential"] * 2


@given(st.sampled_from(ONCE), st.integers(1, 90), st.integers(1, 12), st.integers(1, 4), st.integers(0, 3))
@settings(deadline=None)
def test_every_sample_comes_once(name: str, length: int, group: int, pool: int, epoch: int) -> None:
    of_any_length: dict[str, Order] = {
        "weighted once": WeightedOrder(np.arange(1, length + 1), replacement=False),
        "bucketed": BucketedOrder(np.arange(length) % 7, group=group, pool=pool),
    }
    order = of_any_length.get(name) or ORDERS[name]()
    assert sorted(order.indices(length, 5, epoch)) == list(range(length))


def test_draws_with_replacement_come_in_proportion_to_their_weights() -> None:
    drawn = Counter(WeightedOrder([1, 0, 3, 6], samples=20_000).indices(4, 0, 0).tolist())
    assert sorted(drawn) == [0, 2, 3]
    assert all(abs(drawn[index] / 20_000 - part) < 0.01 for index, part in ((0, 0.1), (2, 0.3), (3, 0.6)))


def test_without_replacement_the_heavy_come_first_in_proportion_and_nothing_without_weight_comes() -> None:
    order = WeightedOrder([1, 0, 3, 6], samples=2, replacement=False)
    epochs = [order.indices(4, 0, epoch).tolist() for epoch in range(4000)]
    firsts = Counter(first for first, _ in epochs)
    assert all(abs(firsts[index] / 4000 - part) < 0.03 for index, part in ((0, 0.1), (2, 0.3), (3, 0.6)))
    assert all(first != second and 1 not in (first, second) for first, second in epochs)


def test_a_tensor_of_weights_will_do_and_so_does_a_weight_next_to_nothing() -> None:
    assert WeightedOrder(torch.tensor([0.0, 1.0])).indices(2, 0, 0).tolist() == [1, 1]
    assert WeightedOrder([5e-324, 1.0], replacement=False).indices(2, 0, 0).tolist() == [1, 0]


@given(st.floats(2**-54, 1))
def test_our_own_logarithm_is_the_logarithm(value: float) -> None:
    assert math.isclose(_log(np.array([value]))[0], math.log(value), rel_tol=1e-14, abs_tol=1e-16)


def test_buckets_are_of_similar_length_and_random() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, size=1003)
    order = BucketedOrder(lengths, group=10)
    one, other = (order.indices(1003, 0, epoch) for epoch in (0, 1))
    assert median_spread(lengths[one]) < 0.1 * median_spread(lengths[epoch_order(1003, 0, 0)])
    whole = one[:1000].reshape(-1, 10)
    assert abs(np.corrcoef(lengths[whole].mean(axis=1), np.arange(100))[0, 1]) < 0.3, "batches are sorted"
    assert {frozenset(group) for group in whole.tolist()}.isdisjoint(
        frozenset(group) for group in other[:1000].reshape(-1, 10).tolist()
    )


def median_spread(lengths: Indices) -> float:
    return float(np.median(np.ptp(lengths[:1000].reshape(-1, 10), axis=1)))


@pytest.mark.parametrize("name", ORDERS)
def test_a_sampler_goes_through_its_order(name: str) -> None:
    order = ORDERS[name]()
    assert [index for batch in sampler(order) for index in batch] == order.indices(LENGTH, 3, 0).tolist()


def test_an_epoch_may_have_more_or_fewer_samples_than_the_dataset() -> None:
    for count in (100, 10):
        batches = list(sampler(WeightedOrder(RISING, samples=count)))
        assert sum(len(batch) for batch in batches) == count


def test_a_sample_that_is_drawn_again_is_augmented_anew() -> None:
    order = WeightedOrder([1, 1], samples=6)
    drawn = [
        index for batch in sampler(order, length=2, batch_size=6) for index in batch if isinstance(index, SampleIndex)
    ]
    assert sorted((int(index), index.draw) for index in drawn) == [
        (index, draw) for index, count in sorted(Counter(map(int, drawn)).items()) for draw in range(count)
    ]
    data = Replayable(Noise(), seed=0)
    assert len({data[index] for index in drawn}) == 6
    assert [data[index] for index in drawn] == data.__getitems__(drawn)


class Noise(torch.utils.data.Dataset[float]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> float:
        return float(torch.rand(()))


# --- which order a position belongs to ---


@pytest.mark.parametrize(
    ("saved", "here", "says"),
    [
        ("shuffled", "weighted", ["data: order is shuffled in the checkpoint, weighted here"]),
        ("weighted", "weighted once", ["data: replacement is True in the checkpoint, False here"]),
        ("bucketed", "sequential", ["data: order is bucketed in the checkpoint, sequential here"]),
        ("bucketed", "bucketed", []),
        ("weighted", "weighted", []),
    ],
)
def test_a_position_in_another_order_is_refused_by_name(saved: str, here: str, says: list[str]) -> None:
    assert [text for text in mismatches(ORDERS[saved](), ORDERS[here]()) if "None" not in text] == says


@pytest.mark.parametrize(
    ("saved", "here", "what"),
    [
        (WeightedOrder(RISING), WeightedOrder([*RISING[:-1], 1.0]), "weights"),
        (WeightedOrder(RISING), WeightedOrder(RISING, samples=41), "samples"),
        (BucketedOrder(RISING, group=8), BucketedOrder(RISING[::-1], group=8), "lengths"),
        (BucketedOrder(RISING, group=8), BucketedOrder(RISING, group=4), "group"),
        (BucketedOrder(RISING, group=8), BucketedOrder(RISING, group=8, pool=51), "pool"),
    ],
)
def test_so_is_one_in_the_same_kind_of_order_over_other_numbers(saved: Order, here: Order, what: str) -> None:
    (text,) = mismatches(saved, here)
    facts = [dict(order.facts())[what] for order in (saved, here)]
    assert text == f"data: {what} is {facts[0]} in the checkpoint, {facts[1]} here"


def mismatches(saved: Order, here: Order) -> list[str]:
    return DataOrder(sampler(here)).mismatches(DataOrder(sampler(saved)).state_dict())


@pytest.mark.parametrize("shuffle", [True, False])
def test_checkpoints_from_before_there_were_orders_are_gone_on_from(shuffle: bool) -> None:  # noqa: FBT001
    saved = {"length": LENGTH, "seed": 3, "shuffle": shuffle}
    assert bool(DataOrder(sampler(ShuffledOrder())).mismatches(saved)) != shuffle
    assert bool(DataOrder(sampler(SequentialOrder())).mismatches(saved)) == shuffle


# --- what is refused ---


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: WeightedOrder([0, 0]), "weights may not be below 0, and some of them must be above"),
        (lambda: WeightedOrder([2, -1]), "weights may not be below 0, and some of them must be above"),
        (
            lambda: WeightedOrder([1, math.nan]),
            "weights must be one finite number for each sample; they have shape [2]",
        ),
        (lambda: WeightedOrder([[1.0]]), "weights must be one finite number for each sample; they have shape [1, 1]"),  # type: ignore[list-item]
        (
            lambda: WeightedOrder([1e308, 1e308]),
            "the sum of the weights is too large for a float: divide them all by the largest",
        ),
        (
            lambda: WeightedOrder([1, 0], samples=2, replacement=False),
            "2 samples cannot be drawn without replacement from 1 with a weight above 0",
        ),
        (lambda: BucketedOrder([], group=2), "lengths must be one finite number for each sample; they have shape [0]"),
        (lambda: BucketedOrder([1], group=0), "group=0 and pool=50 must be at least 1"),
        (
            lambda: sampler(WeightedOrder([1] * 39)),
            "there are 39 weights for a dataset of 40 samples: give one for each",
        ),
        (
            lambda: sampler(BucketedOrder([1] * 41, group=8)),
            "there are 41 lengths for a dataset of 40 samples: give one for each",
        ),
    ],
)
def test_numbers_that_make_no_order_are_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(BadOrder) as caught:
        make()
    assert str(caught.value) == says


class Backwards:
    """As a user may write one, with room for mistakes."""

    def __init__(self, *, skip: int = 0, beyond: int = 0) -> None:
        self.skip = skip
        self.beyond = beyond

    def samples(self, length: int) -> int:
        return length

    def indices(self, length: int, seed: int, epoch: int) -> Indices:
        return np.arange(length)[::-1][self.skip :] + self.beyond

    def facts(self) -> Facts:
        return {"direction": "backwards"}


def test_an_order_of_ones_own_is_known_by_its_class() -> None:
    assert next(iter(sampler(Backwards())))[:3] == [39, 38, 37]
    assert mismatches(ShuffledOrder(), Backwards()) == [
        "data: order is shuffled in the checkpoint, Backwards here",
        "data: direction is None in the checkpoint, backwards here",
    ]


@pytest.mark.parametrize(
    ("order", "was"),
    [(Backwards(skip=1), "shape [39] from 0 to 38"), (Backwards(beyond=1), "shape [40] from 1 to 40")],
)
def test_an_order_that_leaves_out_samples_or_invents_some_is_caught(order: Order, was: str) -> None:
    with pytest.raises(BadOrder) as caught:
        list(sampler(order))
    assert str(caught.value) == f"Backwards.indices() must return 40 indices below 40; it returned an array of {was}"
