"""Intervals: what may be written, and that writing and reading agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relight.configs.every import Every

_EXPECTED = 'expected steps (50) or a time ("30s", "5m", "1.5h"), greater than 0'


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (50, Every(steps=50)),
        ("50", Every(steps=50)),
        ("50.0", Every(steps=50)),
        ("30s", Every(seconds=30)),
        ("5m", Every(seconds=300)),
        ("1.5h", Every(seconds=5400)),
        ("0.25s", Every(seconds=0.25)),
    ],
)
def test_an_interval_is_steps_or_a_time(given_value: object, expected: Every) -> None:
    assert Every.parse(given_value) == expected


@pytest.mark.parametrize(
    "given_value",
    [
        0,
        -1,
        "0",
        "0s",
        "-5m",
        "1.5",
        "auto",
        "",
        "m",
        "5 m",
        "5d",
        "5M",
        "1e3",
        "1" * 13,
        True,
        1.5,
        50.0,
        None,
        [50],
        {},
    ],
    ids=repr,
)
def test_anything_else_is_refused_with_the_valid_forms(given_value: object) -> None:
    with pytest.raises(ValueError) as refused:
        Every.parse(given_value)
    assert str(refused.value) == _EXPECTED


@pytest.mark.parametrize(
    ("every", "text"),
    [
        (Every(steps=50), "50"),
        (Every(seconds=30), "30s"),
        (Every(seconds=300), "5m"),
        (Every(seconds=7200), "2h"),
        (Every(seconds=5400), "90m"),
        (Every(seconds=0.25), "0.25s"),
        (Every(seconds=1e-7), "0.0000001s"),
    ],
)
def test_an_interval_is_written_in_its_largest_whole_unit(every: Every, text: str) -> None:
    assert str(every) == text


@given(
    st.builds(Every, steps=st.integers(1, 10**12 - 1))
    | st.builds(Every, seconds=st.floats(1e-9, 1e9))
    | st.builds(
        lambda text: Every.parse(f"{text}"), st.from_regex(r"[1-9][0-9]{0,3}(\.[0-9]{1,6})?[smh]", fullmatch=True)
    )
)
def test_every_interval_reads_back_as_it_was_written(every: Every) -> None:
    assert Every.parse(str(every)) == every
