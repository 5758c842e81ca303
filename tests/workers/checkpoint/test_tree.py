"""State dicts as JSON and tensors."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relight.workers.checkpoint.tree import Tensors, decode, encode
from relight.workers.errors import NotCaptured

KEYS = st.text(max_size=5) | st.integers(-3, 3)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def round_trip(value: Any) -> Any:
    tensors: Tensors = {}
    text = json.dumps(encode(value, "x", tensors), allow_nan=False)
    return decode(json.loads(text), tensors)


@given(TREES)
def test_what_comes_back_is_what_went_in(value: Any) -> None:
    back = round_trip(value)
    assert back == value
    assert repr(back) == repr(value)  # 1 == True == 1.0, and (1,) reads unlike [1].


def test_what_json_lacks_survives() -> None:
    assert round_trip((1, [2, (3,)])) == (1, [2, (3,)])
    assert round_trip({1: "a", "$tensor": "b"}) == {1: "a", "$tensor": "b"}
    assert round_trip(float("-inf")) == -math.inf
    assert math.isnan(round_trip(float("nan")))
    milestones = round_trip({"milestones": Counter({30: 2, 60: 1})})["milestones"]
    assert isinstance(milestones, Counter)
    assert sorted(milestones.elements()) == [30, 30, 60]


def test_tensors_are_taken_out_under_the_name_of_their_place() -> None:
    tensors: Tensors = {}
    encode({"a": [1, torch.ones(2)], "b": OrderedDict(c=torch.zeros(1))}, "part", tensors)
    assert list(tensors) == ["part/a/1", "part/b/c"]


def test_numpy_values_come_back_as_numpy_arrays_and_plain_numbers() -> None:
    back = round_trip({"keys": np.arange(3, dtype=np.uint32), "n": np.int64(4), "x": np.float64(0.1)})
    assert back["keys"].dtype == np.uint32
    assert back["keys"].tolist() == [0, 1, 2]
    assert (back["n"], back["x"]) == (4, 0.1)


@pytest.mark.parametrize("value", [print, object(), {1, 2}, 1j, torch.float32])
def test_what_needs_pickle_is_refused_by_its_place_with_the_way_out(value: object) -> None:
    with pytest.raises(NotCaptured) as caught:
        encode({"lambdas": [None, value]}, "scheduler", {})
    message = str(caught.value)
    assert message.startswith("scheduler/lambdas/1 is a ")
    assert "cannot be saved without pickle" in message
    assert "Leave it out of state_dict()" in message


def test_keys_that_are_no_names_or_numbers_are_refused() -> None:
    with pytest.raises(NotCaptured) as caught:
        encode({(1, 2): 3}, "sampler", {})
    assert "sampler has keys that are neither strings nor numbers" in str(caught.value)
