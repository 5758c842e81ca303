"""What is made of samples: medians, noise, ratios with their goals, sizes. By table."""

from __future__ import annotations

import pytest

from relight.benchmarks import ratios, samples
from relight.benchmarks.saving import turns
from relight.benchmarks.sizes import parse_bytes, show_bytes, show_seconds

MEASURED = {
    "stall_s": {"relight": [0.1, 0.2, 0.1], "memcpy": [0.1], "torch_save": [3.0], "dcp_async": []},
    "durable_s": {"relight": [0.5], "raw": [0.4], "dcp_save": [2.5]},
    "restore_s": {"relight": [1.0], "dcp_save": [3.0]},
    "peak_extra_bytes": {"relight": [220.0]},
    "bytes": {"state": [100.0], "arenas": [200.0]},
}


def test_a_ratio_is_the_median_over_the_median_and_a_speedup_is_how_many_times_less_ours_is() -> None:
    found = ratios.ratios(MEASURED, remote=False)
    assert found["stall_over_memcpy"] == pytest.approx(1.0)
    assert found["stall_speedup_over_torch_save"] == pytest.approx(30.0)
    assert found["save_durable_speedup_over_dcp"] == pytest.approx(5.0)
    assert found["save_durable_over_raw_odirect"] == pytest.approx(0.8)
    assert found["restore_speedup_over_dcp"] == pytest.approx(3.0)
    assert found["peak_memory_over_arenas"] == pytest.approx(1.1)


def test_what_was_not_measured_is_null_and_never_a_number() -> None:
    found = ratios.ratios(MEASURED, remote=False)
    assert found["stall_speedup_over_dcp_async"] is None
    assert found["restore_over_raw_read"] is None
    assert set(ratios.ratios({}, remote=True).values()) == {None}


@pytest.mark.parametrize(
    ("goal", "value", "met"), [("<= 1.2", 1.2, True), ("<= 1.2", 1.3, False), (">= 20", 19, False)]
)
def test_a_goal_has_a_side(goal: str, value: float, *, met: bool) -> None:
    assert ratios.Claim("it", ("a", "b"), ("a", "c"), goal).meets(value) is met


def test_a_claim_without_a_goal_is_neither_met_nor_missed() -> None:
    assert ratios.Claim("it", ("a", "b"), ("a", "c")).meets(1.0) is None


def test_the_same_thing_twice_is_odd_turns_over_even_turns_and_needs_two_of_each() -> None:
    assert samples.noise([1.0, 2.0, 1.0, 2.0]) == pytest.approx(2.0)
    assert samples.noise([2.0, 1.0, 2.0, 1.0]) == pytest.approx(2.0)
    assert samples.noise([1.0, 2.0, 1.0]) is None


def test_a_drift_of_the_machine_hits_both_neighbours_and_leaves_their_ratio() -> None:
    assert samples.paired_ratio([2.0, 4.0, 20.0], [1.0, 2.0, 10.0]) == pytest.approx(2.0)


def test_a_round_has_ours_before_every_other_and_the_memory_copy_twice() -> None:
    assert turns(["memcpy", "relight", "raw", "dcp_save"]) == [
        "memcpy",
        "relight",
        "raw",
        "relight",
        "dcp_save",
        "memcpy",
    ]
    assert turns(["memcpy", "relight"]) == ["memcpy", "relight", "memcpy"]


@pytest.mark.parametrize(
    ("text", "count"), [("96KiB", 98304), ("8MiB", 8 << 20), ("1.5GiB", 3 << 29), ("1 GiB", 1 << 30), ("12", 12)]
)
def test_sizes_are_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "1GB", "GiB", "-1MiB"])
def test_what_is_no_size_is_refused_with_the_form_that_is_one(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_bytes(text)
    assert str(caught.value) == (f"{text!r} is not a size: expected a number and KiB, MiB or GiB, for example 512MiB")


def test_sizes_and_times_are_shown_in_units_that_fit() -> None:
    assert [show_bytes(count) for count in (12, 98304, 1 << 30, -2048)] == ["12 B", "96 KiB", "1 GiB", "-2 KiB"]
    assert [show_seconds(seconds) for seconds in (0.0123, 1.0)] == ["12.3 ms", "1.00 s"]
